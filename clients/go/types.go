package switchyard

import (
	"bytes"
	"encoding/json"
)

// Steps are steps of commands alone, run one after the other.
func Steps(commands ...string) []Step {
	steps := make([]Step, len(commands))
	for i, command := range commands {
		steps[i] = Step{Run: command}
	}
	return steps
}

// UnmarshalJSON also takes a command alone, as schema/job.json has it.
func (s *Step) UnmarshalJSON(data []byte) error {
	if isText(data) {
		*s = Step{}
		return json.Unmarshal(data, &s.Run)
	}
	type plain Step
	return json.Unmarshal(data, (*plain)(s))
}

// Secret is a variable that a job gets from its consumer, by name. With Inject the provider adds its value to requests outside of the sandbox.
type Secret struct {
	Name   string
	Inject *Injection
}

// MarshalJSON writes a name, or an object where the secret is injected.
func (s Secret) MarshalJSON() ([]byte, error) {
	if s.Inject == nil {
		return json.Marshal(s.Name)
	}
	return json.Marshal(InjectedSecret{Name: s.Name, Inject: *s.Inject})
}

// UnmarshalJSON takes both.
func (s *Secret) UnmarshalJSON(data []byte) error {
	if isText(data) {
		s.Inject = nil
		return json.Unmarshal(data, &s.Name)
	}
	var injected InjectedSecret
	if err := json.Unmarshal(data, &injected); err != nil {
		return err
	}
	*s = Secret{Name: injected.Name, Inject: &injected.Inject}
	return nil
}

// PushOption says how a job's work is pushed; the zero value as by default. Off: the job gets read-only tokens, and nothing is pushed.
type PushOption struct {
	Off bool
	Push
}

// MarshalJSON writes false, or how to push.
func (p PushOption) MarshalJSON() ([]byte, error) {
	if p.Off {
		return []byte("false"), nil
	}
	return json.Marshal(p.Push)
}

// UnmarshalJSON takes both.
func (p *PushOption) UnmarshalJSON(data []byte) error {
	*p = PushOption{}
	if string(bytes.TrimSpace(data)) == "false" {
		p.Off = true
		return nil
	}
	return json.Unmarshal(data, &p.Push)
}

// LFS says which files of Git LFS are fetched: those that Include and Exclude say, or what Mode does, "auto" or "off".
type LFS struct {
	Mode string
	LfsPatterns
}

// MarshalJSON writes the mode, or the patterns where there is none.
func (l LFS) MarshalJSON() ([]byte, error) {
	if l.Mode != "" {
		return json.Marshal(l.Mode)
	}
	return json.Marshal(l.LfsPatterns)
}

// UnmarshalJSON takes both.
func (l *LFS) UnmarshalJSON(data []byte) error {
	*l = LFS{}
	if isText(data) {
		return json.Unmarshal(data, &l.Mode)
	}
	return json.Unmarshal(data, &l.LfsPatterns)
}

// Network says what a job's sandbox may reach: what Mode says ("open", "git-only" or "none"), or the git host and Hosts.
type Network struct {
	Mode  string
	Hosts []string
}

// MarshalJSON writes the mode, or the hosts where there is none.
func (n Network) MarshalJSON() ([]byte, error) {
	if n.Mode != "" {
		return json.Marshal(n.Mode)
	}
	return json.Marshal(n.Hosts)
}

// UnmarshalJSON takes both.
func (n *Network) UnmarshalJSON(data []byte) error {
	*n = Network{}
	if isText(data) {
		return json.Unmarshal(data, &n.Mode)
	}
	return json.Unmarshal(data, &n.Hosts)
}

func isText(data []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(data), []byte{'"'}) }

// Result is what the event of a job's end holds.
func (e Event) Result() (*JobResult, error) {
	var result JobResult
	if err := json.Unmarshal(e.Data, &result); err != nil {
		return nil, err
	}
	return &result, nil
}
