// Package switchyard enqueues AI agents' jobs over Switchyard's HTTP API, follows and cancels them, and checks its webhooks.
//
//	client, err := switchyard.New("https://switchyard.example.com/", key)
//	job, err := client.Enqueue(ctx, switchyard.JobSpec{Repository: "acme/web", Steps: switchyard.Steps("npm test")}, nil)
//	for line, err := range job.Logs(ctx, nil) { … }
//	result, err := job.Wait(ctx)
//
// A refusal of the API is an *[Error], whatever kept a call from its answer an *[UnreachableError], and what answers as no Switchyard does a
// *[ProtocolError]; errors.As finds them. States and kinds are plain strings, since later releases may add some.
package switchyard
