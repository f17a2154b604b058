package switchyard

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	longestWait = 30 * time.Second
	linkSeconds = 600
)

// Client is a producer of jobs: it enqueues, follows and cancels them. It may be used by many goroutines at once.
type Client struct {
	url, authorization string
	http               *http.Client
	timeout            time.Duration
	maxRetries         int
	// Schedules are jobs by the clock.
	Schedules *Schedules
}

// Option changes how a client goes about its calls.
type Option func(*Client)

// WithHTTPClient takes another client than the default, for certificates or proxies. Redirects are not followed, whatever it says.
func WithHTTPClient(client *http.Client) Option {
	return func(c *Client) {
		if client != nil {
			copied := *client
			c.http = &copied
		}
	}
}

// WithTimeout says how long a request may take; by default 30 seconds. Streams and Wait have no such bound but their context's.
func WithTimeout(timeout time.Duration) Option { return func(c *Client) { c.timeout = timeout } }

// WithMaxRetries says how often a request that failed is sent again, by default 4 times; it does nothing twice.
func WithMaxRetries(retries int) Option { return func(c *Client) { c.maxRetries = retries } }

// New makes a client of the API at an address, which an API key opens. Where they are empty, SWITCHYARD_URL and SWITCHYARD_API_KEY of the
// environment count.
func New(address, key string, options ...Option) (*Client, error) {
	if address == "" {
		address = os.Getenv("SWITCHYARD_URL")
	}
	if key == "" {
		key = os.Getenv("SWITCHYARD_API_KEY")
	}
	if address == "" {
		return nil, errors.New("switchyard: url: is missing; give the address that \"switchyard serve\" prints, or set SWITCHYARD_URL")
	}
	if parsed, err := url.Parse(address); err != nil || (parsed.Scheme != "http" && parsed.Scheme != "https") || parsed.Hostname() == "" || parsed.RawQuery != "" || parsed.Fragment != "" {
		return nil, fmt.Errorf("switchyard: url: %q is no address of an API; give one such as \"https://switchyard.example.com/\"", address)
	} else if parsed.User != nil {
		return nil, errors.New("switchyard: url: holds a user or a password; give the API key by itself")
	}
	if key == "" {
		return nil, errors.New("switchyard: key: is missing; make one with \"switchyard keys create\", and give it or set SWITCHYARD_API_KEY")
	}
	if strings.ContainsFunc(key, func(each rune) bool { return each <= ' ' || each > '~' }) {
		return nil, errors.New("switchyard: key: holds blanks or characters that no API key has; look at how it was copied")
	}
	c := &Client{url: strings.TrimRight(address, "/") + "/", authorization: "Bearer " + key, http: &http.Client{}, timeout: 30 * time.Second, maxRetries: 4}
	for _, option := range options {
		option(c)
	}
	c.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	c.Schedules = &Schedules{c}
	return c, nil
}

// EnqueueOptions are of enqueuing; nil for the defaults.
type EnqueueOptions struct {
	// OnFailed is what becomes of a failed job that has the same idempotency key: "keep" or "rerun".
	OnFailed string
	// RequestKey is the request's Idempotency-Key, by default a new one, with which a try that failed is sent again. Give one of your own to be safe
	// across restarts of this process.
	RequestKey string
}

func (o *EnqueueOptions) query() (url.Values, string) {
	if o == nil {
		return nil, ""
	}
	return given("onFailed", o.OnFailed), o.RequestKey
}

// Enqueue enqueues a job.
func (c *Client) Enqueue(ctx context.Context, spec JobSpec, options *EnqueueOptions) (*JobHandle, error) {
	query, key := options.query()
	var made Enqueued
	if err := c.send(ctx, call{op: opCreateJob, query: query, body: spec, key: key}, &made); err != nil {
		return nil, err
	}
	return c.Job(made.JobID), nil
}

// EnqueueMany enqueues up to 1,000 jobs: all of them, or none.
func (c *Client) EnqueueMany(ctx context.Context, specs []JobSpec, options *EnqueueOptions) ([]*JobHandle, error) {
	query, key := options.query()
	var made ManyEnqueued
	if err := c.send(ctx, call{op: opCreateJobs, query: query, body: ManyJobs{Jobs: specs}, key: key}, &made); err != nil {
		return nil, err
	}
	handles := make([]*JobHandle, len(made.Jobs))
	for i, each := range made.Jobs {
		handles[i] = c.Job(each.JobID)
	}
	return handles, nil
}

// Job is a job by its id; nothing is asked of the server.
func (c *Client) Job(jobID string) *JobHandle { return &JobHandle{client: c, ID: jobID} }

// Get says where a job stands, and its result when it has ended.
func (c *Client) Get(ctx context.Context, jobID string) (*Job, error) {
	return c.get(ctx, jobID, 0)
}

func (c *Client) get(ctx context.Context, jobID string, wait time.Duration) (*Job, error) {
	var query url.Values
	if wait > 0 {
		query = url.Values{"waitMs": {strconv.FormatInt(wait.Milliseconds(), 10)}}
	}
	var job Job
	if err := c.send(ctx, call{op: opGetJob, path: []string{"jobId", jobID}, query: query, wait: wait}, &job); err != nil {
		return nil, err
	}
	return &job, nil
}

// ListOptions choose jobs; empty fields choose all, nil too.
type ListOptions struct {
	State, Tenant, Repository string
	// Since leaves out those that were enqueued earlier.
	Since time.Time
	// Limit is how many a page holds, 50 by default.
	Limit int
	// Cursor goes on behind an earlier page.
	Cursor string
}

// List gives jobs, the newest first; further pages are asked for as they are read. After an error there is no more.
func (c *Client) List(ctx context.Context, options *ListOptions) iter.Seq2[Job, error] {
	return func(yield func(Job, error) bool) {
		next := ListOptions{}
		if options != nil {
			next = *options
		}
		for {
			page, err := c.Page(ctx, &next)
			if err != nil {
				yield(Job{}, err)
				return
			}
			for _, job := range page.Jobs {
				if !yield(job, nil) {
					return
				}
			}
			if page.Cursor == nil {
				return
			}
			next.Cursor = *page.Cursor
		}
	}
}

// Page is a page of the list, with the cursor of the next one.
func (c *Client) Page(ctx context.Context, options *ListOptions) (*JobList, error) {
	query := url.Values{}
	if options != nil {
		query = given("state", options.State, "tenant", options.Tenant, "repository", options.Repository, "cursor", options.Cursor)
		if !options.Since.IsZero() {
			query.Set("since", options.Since.Format(time.RFC3339Nano))
		}
		if options.Limit != 0 {
			query.Set("limit", strconv.Itoa(options.Limit))
		}
	}
	var page JobList
	if err := c.send(ctx, call{op: opListJobs, query: query}, &page); err != nil {
		return nil, err
	}
	return &page, nil
}

// Wait gives a job's result when it has ended, however it did, or ctx's error before.
func (c *Client) Wait(ctx context.Context, jobID string) (*JobResult, error) {
	for early := 0; ; {
		began := time.Now()
		job, err := c.get(ctx, jobID, longestWait)
		if ctx.Err() != nil {
			return nil, notEnded(jobID, ctx.Err())
		}
		if err != nil {
			return nil, err
		}
		if job.Result != nil {
			return job.Result, nil
		}
		// A server that stops answers at once.
		if time.Since(began) >= longestWait/2 {
			early = 0
			continue
		}
		early++
		if err := sleep(ctx, pause(early, 0)); err != nil {
			return nil, notEnded(jobID, err)
		}
	}
}

func notEnded(jobID string, err error) error {
	return fmt.Errorf("switchyard: job %s had not ended (%w); it goes on, wait again or cancel it", jobID, err)
}

// LogOptions are of reading a job's output; nil for all of it until the job has ended.
type LogOptions struct {
	// NoFollow reads what there is.
	NoFollow bool
	// After is the Seq of the last piece that was read.
	After int64
}

// Logs gives a job's output as it comes, until the job has ended; where the connection broke off it goes on by itself.
func (c *Client) Logs(ctx context.Context, jobID string, options *LogOptions) iter.Seq2[LogLine, error] {
	query := url.Values{"follow": {"true"}}
	if options != nil {
		query.Set("follow", strconv.FormatBool(!options.NoFollow))
		if options.After != 0 {
			query.Set("after", strconv.FormatInt(options.After, 10))
		}
	}
	return stream[LogLine](ctx, c, call{op: opStreamJobLogs, path: []string{"jobId", jobID}, query: query, event: "log"}, "the log of job "+jobID)
}

// Events gives the deployment's events as they come, until ctx is done. after is an event's Sequence, "0-0" for all that are kept, empty for those
// from now on.
func (c *Client) Events(ctx context.Context, after string) iter.Seq2[Event, error] {
	return stream[Event](ctx, c, call{op: opStreamEvents, query: given("after", after)}, "the stream of events")
}

// Cancel cancels a job: "cancelled", "requested" (its supervisor stops it) or "ended" (it had ended before). reason may be empty.
func (c *Client) Cancel(ctx context.Context, jobID, reason string) (string, error) {
	var done Cancelled
	err := c.send(ctx, call{op: opCancelJob, path: []string{"jobId", jobID}, body: Cancel{Reason: reason}}, &done)
	return done.Outcome, err
}

// Retry runs an ended job again, from "start" (the default) or "checkpoint": "retried", or "pending" (it waits or runs already).
func (c *Client) Retry(ctx context.Context, jobID string, from RetryFrom) (string, error) {
	var done Retried
	err := c.send(ctx, call{op: opRetryJob, path: []string{"jobId", jobID}, body: Retry{From: from}}, &done)
	return done.Outcome, err
}

// ArtifactOptions are of listing artifacts; nil for all, without links.
type ArtifactOptions struct {
	// Path is that of the only artifact wanted.
	Path string
	// Links is for how long links are to open the artifacts, in whole seconds; 0 for none.
	Links time.Duration
}

// Artifacts are what an ended job left.
func (c *Client) Artifacts(ctx context.Context, jobID string, options *ArtifactOptions) (*ArtifactList, error) {
	query := url.Values{}
	if options != nil {
		query = given("path", options.Path)
		if options.Links > 0 {
			query.Set("linkSeconds", strconv.FormatInt(int64(options.Links/time.Second), 10))
		}
	}
	var list ArtifactList
	if err := c.send(ctx, call{op: opListArtifacts, path: []string{"jobId", jobID}, query: query}, &list); err != nil {
		return nil, err
	}
	return &list, nil
}

// Download writes an artifact to a file. It is there whole and with the digest that the result says, or not at all.
func (c *Client) Download(ctx context.Context, jobID, path, to string) (*LinkedArtifact, error) {
	list, err := c.Artifacts(ctx, jobID, &ArtifactOptions{Path: path, Links: linkSeconds * time.Second})
	if err != nil {
		return nil, err
	}
	if len(list.Artifacts) == 0 {
		return nil, fmt.Errorf("switchyard: job %s left no artifact %q; look at what it left with Artifacts", jobID, path)
	}
	artifact := list.Artifacts[0]
	if artifact.Link == nil {
		return nil, fmt.Errorf("switchyard: %q is in a folder of the consumers' (%s), which no link opens; store artifacts in S3 to download them", path, artifact.Where)
	}
	// The link opens by itself; the API's key is not the store's to see.
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, *artifact.Link, nil)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("switchyard: the artifact store can't be reached (%s); ask again", reasonOf(err))
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("switchyard: the artifact store answered %d for %q; ask for it again, and look at the store's settings if it stays so", response.StatusCode, path)
	}
	file, err := os.CreateTemp(filepath.Dir(to), ".switchyard-*")
	if err != nil {
		return nil, err
	}
	defer os.Remove(file.Name())
	digest := sha256.New()
	size, err := io.Copy(io.MultiWriter(file, digest), io.LimitReader(response.Body, artifact.SizeBytes+1))
	if err != nil {
		file.Close()
		return nil, fmt.Errorf("switchyard: the artifact store can't be reached (%s); ask again", err)
	}
	if err := file.Close(); err != nil {
		return nil, err
	}
	if size != artifact.SizeBytes || hex.EncodeToString(digest.Sum(nil)) != artifact.Sha256 {
		return nil, fmt.Errorf("switchyard: what the artifact store gave for %q is not what the job left (its size or SHA-256 differs); nothing was written", path)
	}
	return &artifact, os.Rename(file.Name(), to)
}

// Providers says what each provider holds, and why it may take no more.
func (c *Client) Providers(ctx context.Context) ([]ProviderLoad, error) {
	var list ProviderList
	err := c.send(ctx, call{op: opListProviders}, &list)
	return list.Providers, err
}

// Tenants gives those that have jobs, or had until lately; one may come twice.
func (c *Client) Tenants(ctx context.Context) iter.Seq2[Tenant, error] {
	return func(yield func(Tenant, error) bool) {
		cursor := ""
		for {
			var page TenantList
			if err := c.send(ctx, call{op: opListTenants, query: given("cursor", cursor)}, &page); err != nil {
				yield(Tenant{}, err)
				return
			}
			for _, tenant := range page.Tenants {
				if !yield(tenant, nil) {
					return
				}
			}
			if page.Cursor == nil {
				return
			}
			cursor = *page.Cursor
		}
	}
}

// Costs are those of sandboxes, by tenant and day. since is a day, such as "2026-12-01"; both may be empty.
func (c *Client) Costs(ctx context.Context, since, tenant string) ([]TenantCost, error) {
	var list CostList
	err := c.send(ctx, call{op: opListCosts, query: given("since", since, "tenant", tenant)}, &list)
	return list.Costs, err
}

// Audit says who did what, the newest first; it asks for a key of the scope admin. limit 0: 50 entries; before: an entry's ID, or empty.
func (c *Client) Audit(ctx context.Context, limit int, before string) ([]AuditEntry, error) {
	query := given("before", before)
	if limit != 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	var list AuditList
	err := c.send(ctx, call{op: opListAudit, query: query}, &list)
	return list.Entries, err
}

// Check fails unless the server is there and ready.
func (c *Client) Check(ctx context.Context) error {
	var health Health
	if err := c.send(ctx, call{op: opGetHealth}, &health); err != nil {
		return err
	}
	return c.send(ctx, call{op: opGetReadiness}, &health)
}

// given are the parameters that have a value, of names and values in turn.
func given(pairs ...string) url.Values {
	values := url.Values{}
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] != "" {
			values.Set(pairs[i], pairs[i+1])
		}
	}
	return values
}
