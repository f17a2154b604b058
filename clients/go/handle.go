package switchyard

import (
	"context"
	"iter"
)

// JobHandle is a job by its id.
type JobHandle struct {
	client *Client
	ID     string
}

// Get says where it stands.
func (j *JobHandle) Get(ctx context.Context) (*Job, error) { return j.client.Get(ctx, j.ID) }

// Wait gives its result when it has ended, however it did.
func (j *JobHandle) Wait(ctx context.Context) (*JobResult, error) { return j.client.Wait(ctx, j.ID) }

// Logs gives its output as it comes.
func (j *JobHandle) Logs(ctx context.Context, options *LogOptions) iter.Seq2[LogLine, error] {
	return j.client.Logs(ctx, j.ID, options)
}

// Cancel cancels it.
func (j *JobHandle) Cancel(ctx context.Context, reason string) (string, error) {
	return j.client.Cancel(ctx, j.ID, reason)
}

// Retry runs it again.
func (j *JobHandle) Retry(ctx context.Context, from RetryFrom) (string, error) {
	return j.client.Retry(ctx, j.ID, from)
}

// Artifacts are what it left.
func (j *JobHandle) Artifacts(ctx context.Context, options *ArtifactOptions) (*ArtifactList, error) {
	return j.client.Artifacts(ctx, j.ID, options)
}

// Download writes one of its artifacts to a file.
func (j *JobHandle) Download(ctx context.Context, path, to string) (*LinkedArtifact, error) {
	return j.client.Download(ctx, j.ID, path, to)
}

// Schedules are jobs by the clock: Client.Schedules.
type Schedules struct{ client *Client }

// List gives all of them, the next to run first.
func (s *Schedules) List(ctx context.Context) ([]Schedule, error) {
	var list ScheduleList
	err := s.client.send(ctx, call{op: opListSchedules}, &list)
	return list.Schedules, err
}

// Get gives one of them.
func (s *Schedules) Get(ctx context.Context, id string) (*Schedule, error) {
	return s.one(ctx, opGetSchedule, id, nil)
}

// Put makes it, or changes the one that has this id.
func (s *Schedules) Put(ctx context.Context, id string, schedule ScheduleInput) (*Schedule, error) {
	return s.one(ctx, opPutSchedule, id, schedule)
}

// Pause begins no more runs until it is resumed.
func (s *Schedules) Pause(ctx context.Context, id string) (*Schedule, error) {
	return s.one(ctx, opPauseSchedule, id, nil)
}

// Resume goes on; what was missed is seen to as the schedule says.
func (s *Schedules) Resume(ctx context.Context, id string) (*Schedule, error) {
	return s.one(ctx, opResumeSchedule, id, nil)
}

// Remove removes it; its runs under way go on.
func (s *Schedules) Remove(ctx context.Context, id string) error {
	return s.client.send(ctx, call{op: opRemoveSchedule, path: []string{"scheduleId", id}, goneIsDone: true}, nil)
}

func (s *Schedules) one(ctx context.Context, op operation, id string, body any) (*Schedule, error) {
	var schedule Schedule
	if err := s.client.send(ctx, call{op: op, path: []string{"scheduleId", id}, body: body}, &schedule); err != nil {
		return nil, err
	}
	return &schedule, nil
}
