package switchyard

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"
	"time"
)

const (
	// silence is after how long a stream is taken for dead; it says every 15 seconds that it lives.
	silence = 45 * time.Second
	// lives is for how long a stream must have gone on to be none that fails.
	lives = 10 * time.Second
	// longestEvent bounds what is held of one, in bytes; a piece of a log has far fewer.
	longestEvent = 16 << 20
	// moreRetries are those of a stream that has begun: whoever follows a job for hours waits for a server that is started anew.
	moreRetries = 4
)

// serverSentEvent is one of https://html.spec.whatwg.org/multipage/server-sent-events.html.
type serverSentEvent struct{ event, data string }

// readEvents gives whole events; one that is cut off is none. lastID is kept current.
func readEvents(from io.Reader, lastID *string, yield func(serverSentEvent) bool) error {
	lines := bufio.NewScanner(from)
	lines.Buffer(make([]byte, 0, 64<<10), longestEvent)
	lines.Split(splitLines)
	id, event, size := *lastID, "", 0
	var data []string
	for lines.Scan() {
		line := lines.Text()
		if line == "" {
			*lastID = id
			found := serverSentEvent{event, strings.Join(data, "\n")}
			is := data != nil
			event, data, size = "", nil, 0
			if is && !yield(found) {
				return nil
			}
			continue
		}
		if size += len(line); size > longestEvent {
			return bufio.ErrTooLong
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case name == "event":
			event = value
		case name == "data":
			data = append(data, value)
		case name == "id" && !strings.Contains(value, "\x00"):
			id = value
		}
	}
	return lines.Err()
}

// splitLines ends lines at \r\n, \n and \r.
func splitLines(data []byte, atEOF bool) (int, []byte, error) {
	for i, each := range data {
		if each == '\n' {
			return i + 1, data[:i], nil
		}
		if each == '\r' {
			if i+1 == len(data) && !atEOF {
				return 0, nil, nil
			}
			if i+1 < len(data) && data[i+1] == '\n' {
				return i + 2, data[:i], nil
			}
			return i + 1, data[:i], nil
		}
	}
	// A line that is cut off is none.
	if atEOF {
		return len(data), nil, nil
	}
	return 0, nil, nil
}

// stream reads a stream to its end, and takes it up again behind the last event where it broke off.
func stream[T any](ctx context.Context, c *Client, cl call, what string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		var none T
		lastID, failures, most := "", 0, c.maxRetries
		for {
			began := time.Now()
			stopped, ended := false, false
			opened := func() {
				if c.maxRetries > 0 {
					most = c.maxRetries + moreRetries
				}
			}
			err := c.readStream(ctx, cl, &lastID, opened, func(event serverSentEvent) (bool, error) {
				failures = 0
				if event.event == "end" {
					ended = true
					return false, nil
				}
				if cl.event != "" && cl.event != event.event {
					return true, nil
				}
				var item T
				if err := json.Unmarshal([]byte(event.data), &item); err != nil {
					return false, &ProtocolError{URL: c.url, Status: http.StatusOK, ContentType: "text/event-stream", Err: err}
				}
				stopped = !yield(item, nil)
				return !stopped, nil
			})
			if stopped || ended {
				return
			}
			if ctx.Err() != nil {
				yield(none, ctx.Err())
				return
			}
			var after time.Duration
			switch failed := err.(type) {
			case *refusedStream:
				if !failed.again || failures >= most {
					yield(none, failed.err)
					return
				}
				after = failed.after
			case *ProtocolError, *inputError:
				yield(none, failed)
				return
			default:
				if time.Since(began) >= lives {
					failures = 0
				}
				if failures >= most {
					yield(none, &StreamLostError{What: what, URL: c.url, LastEventID: lastID, Err: err})
					return
				}
			}
			failures++
			if err := sleep(ctx, pause(failures, after)); err != nil {
				yield(none, err)
				return
			}
		}
	}
}

// refusedStream is an answer that is no stream.
type refusedStream struct {
	err   error
	after time.Duration
	again bool
}

func (r *refusedStream) Error() string { return r.err.Error() }

func (c *Client) readStream(ctx context.Context, cl call, lastID *string, opened func(), take func(serverSentEvent) (bool, error)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Until the answer begins it has the time of a request.
	watch := time.AfterFunc(c.timeout, func() { cancel(fmt.Errorf("no answer within %s", c.timeout)) })
	defer watch.Stop()
	request, err := c.request(ctx, cl, nil, "text/event-stream")
	if err != nil {
		return err
	}
	if *lastID != "" {
		request.Header.Set("Last-Event-ID", *lastID)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return causeOr(ctx, err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK || mediaType(response.Header) != "text/event-stream" {
		body, err := io.ReadAll(io.LimitReader(response.Body, mostAnswerBytes))
		if err != nil {
			return causeOr(ctx, err)
		}
		after, again := mayRetry(response)
		return &refusedStream{err: refusal(c.url, response, body), after: after, again: again}
	}
	watch.Stop()
	opened()
	watched := &watchedReader{from: response.Body, watch: time.AfterFunc(silence, func() { cancel(fmt.Errorf("nothing came for %s", silence)) })}
	defer watched.watch.Stop()
	var failed error
	err = readEvents(watched, lastID, func(event serverSentEvent) bool {
		// However long its reader takes, the stream is not to blame.
		watched.watch.Stop()
		defer watched.watch.Reset(silence)
		on, err := take(event)
		failed = err
		return on && err == nil
	})
	if errors.Is(err, bufio.ErrTooLong) {
		return &ProtocolError{URL: c.url, Status: http.StatusOK, ContentType: "text/event-stream", Err: err}
	}
	if failed != nil {
		return failed
	}
	return causeOr(ctx, err)
}

func causeOr(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil && err != nil {
		return cause
	}
	return err
}

// watchedReader puts off its watch with each read.
type watchedReader struct {
	from  io.Reader
	watch *time.Timer
}

func (w *watchedReader) Read(into []byte) (int, error) {
	n, err := w.from.Read(into)
	w.watch.Reset(silence)
	return n, err
}
