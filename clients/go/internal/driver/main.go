// Command driver does what a test says in lines of JSON, by the client. The Python package has the same.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"time"

	"switchyard.dev/switchyard"
)

type arguments struct {
	URL, Key              string
	MaxRetries, TimeoutMs int
	Spec                  switchyard.JobSpec
	Specs                 []switchyard.JobSpec
	RequestKey            string
	JobID                 string `json:"jobId"`
	PageSize              int
	Filter                struct{ State, Tenant, Repository string }
	Follow                bool
	After                 json.RawMessage
	Count                 int
	Reason, From          string
	Since, Tenant         string
	LinkSeconds, Limit    int
	Path, To              string
	Do                    string
	With                  []json.RawMessage
	Secrets               []string
	Body                  string
	Headers               map[string]string
	Now                   int64
}

func main() {
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	var client *switchyard.Client
	for lines.Scan() {
		var asked struct {
			Op   string
			Args arguments
		}
		if err := json.Unmarshal(lines.Bytes(), &asked); err != nil {
			panic(err)
		}
		var value any
		var err error
		if asked.Op == "connect" {
			options := []switchyard.Option{switchyard.WithMaxRetries(asked.Args.MaxRetries)}
			if asked.Args.TimeoutMs > 0 {
				options = append(options, switchyard.WithTimeout(time.Duration(asked.Args.TimeoutMs)*time.Millisecond))
			}
			client, err = switchyard.New(asked.Args.URL, asked.Args.Key, options...)
		} else {
			value, err = run(context.Background(), client, asked.Op, asked.Args)
		}
		if err == nil {
			print(map[string]any{"value": value})
			continue
		}
		failure := map[string]any{"kind": kind(err), "message": err.Error()}
		var refused *switchyard.Error
		if errors.As(err, &refused) {
			failure["code"], failure["status"], failure["title"], failure["problems"] = refused.Code, refused.Status, refused.Title, refused.Problems
		}
		print(map[string]any{"error": failure})
	}
}

func kind(err error) string {
	if errors.Is(err, switchyard.ErrVerification) {
		return "ErrVerification"
	}
	return reflect.Indirect(reflect.ValueOf(err)).Type().Name()
}

func print(value any) {
	line, err := json.Marshal(value)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%s\n", line)
}

func run(ctx context.Context, client *switchyard.Client, op string, args arguments) (any, error) {
	job := func() *switchyard.JobHandle { return client.Job(args.JobID) }
	switch op {
	case "verify":
		webhook, err := switchyard.NewWebhook(args.Secrets...)
		if err != nil {
			return nil, err
		}
		webhook.Now = func() time.Time { return time.Unix(args.Now, 0) }
		header := http.Header{}
		for name, value := range args.Headers {
			header.Set(name, value)
		}
		return webhook.Verify([]byte(args.Body), header)
	case "enqueue":
		var options *switchyard.EnqueueOptions
		if args.RequestKey != "" {
			options = &switchyard.EnqueueOptions{RequestKey: args.RequestKey}
		}
		made, err := client.Enqueue(ctx, args.Spec, options)
		if err != nil {
			return nil, err
		}
		return made.ID, nil
	case "enqueueMany":
		made, err := client.EnqueueMany(ctx, args.Specs, nil)
		ids := []string{}
		for _, each := range made {
			ids = append(ids, each.ID)
		}
		return ids, err
	case "get":
		return job().Get(ctx)
	case "wait":
		within, cancel := context.WithTimeout(ctx, time.Duration(args.TimeoutMs)*time.Millisecond)
		defer cancel()
		return job().Wait(within)
	case "list":
		ids := []string{}
		for each, err := range client.List(ctx, &switchyard.ListOptions{State: args.Filter.State, Tenant: args.Filter.Tenant, Repository: args.Filter.Repository, Limit: args.PageSize}) {
			if err != nil {
				return nil, err
			}
			ids = append(ids, each.JobID)
		}
		return ids, nil
	case "logs":
		options := &switchyard.LogOptions{NoFollow: !args.Follow}
		if len(args.After) > 0 {
			if err := json.Unmarshal(args.After, &options.After); err != nil {
				return nil, err
			}
		}
		count := 0
		for line, err := range job().Logs(ctx, options) {
			if err != nil {
				return nil, err
			}
			print(map[string]any{"item": line})
			if count++; count == args.Count {
				break
			}
		}
		return count, nil
	case "events":
		after := ""
		if len(args.After) > 0 {
			if err := json.Unmarshal(args.After, &after); err != nil {
				return nil, err
			}
		}
		count := 0
		for event, err := range client.Events(ctx, after) {
			if err != nil {
				return nil, err
			}
			print(map[string]any{"item": event})
			if count++; count == args.Count {
				break
			}
		}
		return count, nil
	case "cancel":
		return job().Cancel(ctx, args.Reason)
	case "retry":
		return job().Retry(ctx, switchyard.RetryFrom(args.From))
	case "artifacts":
		return job().Artifacts(ctx, &switchyard.ArtifactOptions{Links: time.Duration(args.LinkSeconds) * time.Second})
	case "download":
		return job().Download(ctx, args.Path, args.To)
	case "schedules":
		return schedules(ctx, client.Schedules, args)
	case "providers":
		return client.Providers(ctx)
	case "tenants":
		tenants := []switchyard.Tenant{}
		for tenant, err := range client.Tenants(ctx) {
			if err != nil {
				return nil, err
			}
			tenants = append(tenants, tenant)
		}
		return tenants, nil
	case "costs":
		return client.Costs(ctx, args.Since, args.Tenant)
	case "audit":
		return client.Audit(ctx, args.Limit, "")
	case "check":
		return nil, client.Check(ctx)
	}
	return nil, fmt.Errorf("there is no %s", op)
}

func schedules(ctx context.Context, all *switchyard.Schedules, args arguments) (any, error) {
	if args.Do == "list" {
		return all.List(ctx)
	}
	var id string
	if err := json.Unmarshal(args.With[0], &id); err != nil {
		return nil, err
	}
	switch args.Do {
	case "put":
		var schedule switchyard.ScheduleInput
		if err := json.Unmarshal(args.With[1], &schedule); err != nil {
			return nil, err
		}
		return all.Put(ctx, id, schedule)
	case "get":
		return all.Get(ctx, id)
	case "pause":
		return all.Pause(ctx, id)
	case "resume":
		return all.Resume(ctx, id)
	case "remove":
		return nil, all.Remove(ctx, id)
	}
	return nil, fmt.Errorf("there is no %s", args.Do)
}
