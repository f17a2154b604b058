package switchyard

import (
	"encoding/json"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Error is a refusal of the API: application/problem+json, RFC 9457.
type Error struct {
	// Status is that of HTTP.
	Status int
	// Code is stable from release to release; docs/errors.md says of each what mends it.
	Code  string
	Title string
	// Detail is one sentence: what is wrong, and the mend.
	Detail string
	// Problems are, of wrong input, every problem, one sentence each.
	Problems []string
	// RetryAfter is in how long to ask again, where the server said so.
	RetryAfter time.Duration
}

func (e *Error) Error() string { return fmt.Sprintf("switchyard: %s (%s)", e.Detail, e.Code) }

// UnreachableError is a server that can't be reached, or that gave no answer, still after all tries.
type UnreachableError struct {
	URL string
	Err error
}

func (e *UnreachableError) Error() string {
	return fmt.Sprintf("switchyard: %s can't be reached (%s); is \"switchyard serve\" running there, and is the address right?", e.URL, reasonOf(e.Err))
}

func (e *UnreachableError) Unwrap() error { return e.Err }

// StreamLostError is a stream that broke off and could not be taken up again.
type StreamLostError struct {
	What, URL string
	// LastEventID is what to give as After to go on; empty when nothing was read.
	LastEventID string
	Err         error
}

func (e *StreamLostError) Error() string {
	on := ""
	if e.LastEventID != "" {
		on = fmt.Sprintf(", and go on with After %s", e.LastEventID)
	}
	return fmt.Sprintf("switchyard: %s broke off and could not be taken up again at %s (%s); look whether the server runs%s", e.What, e.URL, reasonOf(e.Err), on)
}

func (e *StreamLostError) Unwrap() error { return e.Err }

// ProtocolError is an answer that is none of Switchyard's API.
type ProtocolError struct {
	URL         string
	Status      int
	ContentType string
	Err         error
}

func (e *ProtocolError) Error() string {
	return fmt.Sprintf("switchyard: %s answered %d with %s, which is not Switchyard's API; give the address that \"switchyard serve\" prints", e.URL, e.Status, e.ContentType)
}

func (e *ProtocolError) Unwrap() error { return e.Err }

// reasonOf is an error without the method and address that net/http puts before it.
func reasonOf(err error) string {
	if err == nil {
		return "the server ended it"
	}
	text := err.Error()
	if at := strings.Index(text, "\": "); strings.HasPrefix(text, "Get \"") || strings.HasPrefix(text, "Post \"") || strings.HasPrefix(text, "Put \"") || strings.HasPrefix(text, "Delete \"") {
		if at >= 0 {
			text = text[at+3:]
		}
	}
	return text
}

func mediaType(header http.Header) string {
	kind, _, err := mime.ParseMediaType(header.Get("Content-Type"))
	if err != nil || kind == "" {
		return "nothing"
	}
	return kind
}

// refusal is what an answer that is no success says.
func refusal(url string, response *http.Response, body []byte) error {
	if mediaType(response.Header) == "application/problem+json" {
		var problem Problem
		if json.Unmarshal(body, &problem) == nil && problem.Detail != "" {
			after, _ := retryAfter(response.Header, time.Now())
			return &Error{Status: response.StatusCode, Code: problem.Code, Title: problem.Title, Detail: problem.Detail, Problems: problem.Problems, RetryAfter: after}
		}
	}
	return &ProtocolError{URL: url, Status: response.StatusCode, ContentType: mediaType(response.Header)}
}

// retryAfter reads seconds, or a date.
func retryAfter(header http.Header, now time.Time) (time.Duration, bool) {
	text := strings.TrimSpace(header.Get("Retry-After"))
	if seconds, err := strconv.ParseUint(text, 10, 31); err == nil {
		return time.Duration(seconds) * time.Second, true
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now)), true
	}
	return 0, false
}
