package switchyard

import (
	"encoding/json"
	"net/http"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

func TestStreamsAreReadWhereverTheyAreCut(t *testing.T) {
	text := ": hello\nid: 5\n\nid: 6\nevent: log\ndata: {\"a\":\"☃\"}\r\n\r\ndata:one\rdata:  two\r\rdata: 3\nid: 7\n\nid: 8\ndata: cut off\n"
	want := []serverSentEvent{{"log", `{"a":"☃"}`}, {"", "one\n two"}, {"", "3"}}
	for name, reader := range map[string]*strings.Reader{"whole": strings.NewReader(text), "by bytes": strings.NewReader(text)} {
		id := "4"
		var found []serverSentEvent
		from := iotest.DataErrReader(reader)
		if name == "by bytes" {
			from = iotest.OneByteReader(reader)
		}
		if err := readEvents(from, &id, func(event serverSentEvent) bool { found = append(found, event); return true }); err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(found, want) || id != "7" {
			t.Errorf("%s: %q, id %s", name, found, id)
		}
	}
}

func TestUnionsAreWrittenAndReadAsTheJobSchemaHasThem(t *testing.T) {
	for _, text := range []string{
		`{"repository":"a/b","steps":[{"run":"x"}]}`,
		`{"push":false,"repository":"a/b","secrets":["A",{"inject":{"header":"x","host":"h"},"name":"B"}],"steps":[{"run":"x"}]}`,
		`{"lfs":"off","network":"none","push":{"message":"m"},"repository":"a/b","steps":[{"run":"x"}]}`,
		`{"lfs":{"include":["a"]},"network":["h"],"promote":{"pullRequest":{},"to":"x"},"repository":"a/b","steps":[{"run":"x"}]}`,
	} {
		var spec JobSpec
		if err := json.Unmarshal([]byte(text), &spec); err != nil {
			t.Fatal(err)
		}
		again, err := json.Marshal(spec)
		if err != nil || !sameJSON(t, text, string(again)) {
			t.Errorf("%s became %s (%v)", text, again, err)
		}
	}
	var spec JobSpec
	if err := json.Unmarshal([]byte(`{"steps":["a",{"run":"b"}]}`), &spec); err != nil || spec.Steps[0].Run != "a" || spec.Steps[1].Run != "b" {
		t.Errorf("%v %v", spec.Steps, err)
	}
	if steps := Steps("a", "b"); len(steps) != 2 || steps[1].Run != "b" {
		t.Error(steps)
	}
}

func sameJSON(t *testing.T, one, other string) bool {
	t.Helper()
	var a, b any
	if json.Unmarshal([]byte(one), &a) != nil || json.Unmarshal([]byte(other), &b) != nil {
		t.Fatal("no JSON")
	}
	return reflect.DeepEqual(a, b)
}

func TestComesAgainWhenTheServerSaidSo(t *testing.T) {
	now := time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{"7": 7 * time.Second, "Tue, 01 Dec 2026 00:00:09 GMT": 9 * time.Second, "Mon, 30 Nov 2026 00:00:00 GMT": 0} {
		if found, said := retryAfter(http.Header{"Retry-After": {text}}, now); !said || found != want {
			t.Errorf("%s: %v", text, found)
		}
	}
	for _, text := range []string{"soon", "-1", ""} {
		if _, said := retryAfter(http.Header{"Retry-After": {text}}, now); said {
			t.Errorf("%q is no time", text)
		}
	}
	for tries := 1; tries < 80; tries++ {
		if wait := pause(tries, 0); wait <= 0 || wait > 8*time.Second {
			t.Errorf("try %d waits %v", tries, wait)
		}
	}
}

func TestHasEveryOperationOfTheAPI(t *testing.T) {
	generated, err := os.ReadFile("operations.gen.go")
	if err != nil {
		t.Fatal(err)
	}
	var used strings.Builder
	for _, file := range []string{"client.go", "handle.go"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		used.Write(text)
	}
	for _, name := range slices.Compact(regexp.MustCompile(`\bop[A-Z]\w+`).FindAllString(string(generated), -1)) {
		if !regexp.MustCompile(`\b` + name + `\b`).MatchString(used.String()) {
			t.Errorf("no method calls %s", name)
		}
	}
}
