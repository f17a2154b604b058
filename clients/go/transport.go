package switchyard

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
)

const (
	longestRetryAfter = time.Minute
	// mostAnswerBytes bounds what is read of an answer.
	mostAnswerBytes = 64 << 20
)

// call is one of the API's, with all that it takes.
type call struct {
	op    operation
	path  []string // names and values in turn
	query url.Values
	body  any
	// key is the Idempotency-Key; a new one where the operation takes one and none is given.
	key string
	// wait is for how long the server itself waits before it answers.
	wait time.Duration
	// event is, of a stream, the name of the events that are read; those of other names are of later releases. Empty for all.
	event string
	// goneIsDone: whether a 404 at a second try means that the first one did it.
	goneIsDone bool
}

func (c *Client) target(cl call) (string, error) {
	path := cl.op.path
	for i := 0; i+1 < len(cl.path); i += 2 {
		// They would be taken for a way to elsewhere.
		if value := cl.path[i+1]; value == "" || value == "." || value == ".." {
			return "", &inputError{fmt.Sprintf("switchyard: %q is no id of a job or a schedule; give one that the API gave", value)}
		}
		path = strings.ReplaceAll(path, "{"+cl.path[i]+"}", url.PathEscape(cl.path[i+1]))
	}
	target := c.url + strings.TrimPrefix(path, "/")
	if len(cl.query) > 0 {
		target += "?" + cl.query.Encode()
	}
	return target, nil
}

// inputError is one that no other try mends.
type inputError struct{ problem string }

func (e *inputError) Error() string { return e.problem }

func (c *Client) request(ctx context.Context, cl call, body []byte, accept string) (*http.Request, error) {
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	target, err := c.target(cl)
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, cl.op.method, target, reader)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", c.authorization)
	request.Header.Set("Accept", accept)
	request.Header.Set("User-Agent", "switchyard-go/0.1")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if cl.key != "" {
		request.Header.Set("Idempotency-Key", `"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(cl.key)+`"`)
	}
	return request, nil
}

// send asks until there is an answer, as often as it may; every call may be sent again: it reads, or bears a key, or does the same twice.
func (c *Client) send(ctx context.Context, cl call, into any) error {
	var body []byte
	if cl.body != nil {
		made, err := json.Marshal(cl.body)
		if err != nil {
			return fmt.Errorf("switchyard: the request can't be written as JSON: %w", err)
		}
		body = made
	}
	if cl.op.once && cl.key == "" {
		cl.key = newKey()
	}
	if len(cl.key) > 255 || strings.ContainsFunc(cl.key, func(each rune) bool { return each < ' ' || each > '~' }) {
		return errors.New("switchyard: RequestKey: must be 1 to 255 printable ASCII characters")
	}
	for tries := 1; ; tries++ {
		response, answer, err := c.once(ctx, cl, body)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if wrong := (*inputError)(nil); errors.As(err, &wrong) {
			return wrong
		}
		if err != nil {
			if tries > c.maxRetries {
				return &UnreachableError{URL: c.url, Err: err}
			}
			if err := sleep(ctx, pause(tries, 0)); err != nil {
				return err
			}
			continue
		}
		if response.StatusCode >= 200 && response.StatusCode < 300 {
			if into == nil {
				return nil
			}
			if err := json.Unmarshal(answer, into); err != nil {
				return &ProtocolError{URL: c.url, Status: response.StatusCode, ContentType: mediaType(response.Header), Err: err}
			}
			return nil
		}
		after, again := mayRetry(response)
		if again && tries <= c.maxRetries {
			if err := sleep(ctx, pause(tries, after)); err != nil {
				return err
			}
			continue
		}
		refused := refusal(c.url, response, answer)
		var problem *Error
		if cl.goneIsDone && tries > 1 && errors.As(refused, &problem) && problem.Status == http.StatusNotFound {
			return nil
		}
		return refused
	}
}

func (c *Client) once(ctx context.Context, cl call, body []byte) (*http.Response, []byte, error) {
	within, cancel := context.WithTimeoutCause(ctx, c.timeout+cl.wait, fmt.Errorf("no answer within %s", c.timeout+cl.wait))
	defer cancel()
	request, err := c.request(within, cl, body, "application/json, application/problem+json")
	if err != nil {
		return nil, nil, err
	}
	response, err := c.http.Do(request)
	if err == nil {
		defer response.Body.Close()
		var answer []byte
		if answer, err = io.ReadAll(io.LimitReader(response.Body, mostAnswerBytes+1)); err == nil && len(answer) <= mostAnswerBytes {
			return response, answer, nil
		}
		if err == nil {
			return nil, nil, &inputError{fmt.Sprintf("switchyard: %s answered more than %d MiB, as Switchyard's API never does; give the address that \"switchyard serve\" prints", c.url, mostAnswerBytes>>20)}
		}
	}
	if cause := context.Cause(within); cause != nil && ctx.Err() == nil {
		err = cause
	}
	return nil, nil, err
}

func mayRetry(response *http.Response) (time.Duration, bool) {
	after, said := retryAfter(response.Header, time.Now())
	switch response.StatusCode {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return after, after <= longestRetryAfter
	case http.StatusConflict:
		// The same request is still being answered.
		return after, said && after <= longestRetryAfter
	case http.StatusBadGateway, http.StatusGatewayTimeout:
		return 0, true
	}
	return 0, false
}

// pause is how long to wait before the next try; a little by chance, so that many don't come back at once.
func pause(tries int, least time.Duration) time.Duration {
	backoff := min(8*time.Second, 250*time.Millisecond<<min(tries-1, 10))
	return max(least, backoff/2+mathrand.N(backoff/2+1))
}

func sleep(ctx context.Context, for_ time.Duration) error {
	timer := time.NewTimer(for_)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func newKey() string {
	var bytes [16]byte
	_, _ = rand.Read(bytes[:]) // never fails
	return fmt.Sprintf("%x", bytes)
}
