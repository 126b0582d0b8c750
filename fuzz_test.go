package flocklock_test

// What is fuzzed everywhere; what reads /proc is in fuzz_linux_test.go. The
// corpus, testdata/fuzz, has a file for each shape that LEGACY rows, users and
// fuzz runs have shown.

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/flocklock/flocklock"
)

// asJSON writes a record by encoding/json alone.
func asJSON(t *testing.T, r flocklock.Record) string {
	iso := func(at time.Time) string {
		if at.IsZero() {
			return ""
		}
		return at.UTC().Format("2006-01-02T15:04:05.000000-07:00")
	}
	text, err := json.Marshal(struct {
		PID          int            `json:"pid"`
		Kind         string         `json:"kind"`
		Argv         []string       `json:"argv"`
		StartTime    *int64         `json:"start_time"`
		Scope        string         `json:"scope"`
		IdentityHash string         `json:"identity_hash"`
		Metadata     map[string]any `json:"metadata"`
		UpdatedAt    string         `json:"updated_at"`
		HermesHome   string         `json:"hermes_home,omitempty"`
		Profile      string         `json:"profile,omitempty"`
		Format       int            `json:"format,omitempty"`
		ID           string         `json:"id,omitempty"`
		AcquiredAt   string         `json:"acquired_at,omitempty"`
		Host         string         `json:"host,omitempty"`
		BootID       string         `json:"boot_id,omitempty"`
		PIDNamespace string         `json:"pid_ns,omitempty"`
		From         int            `json:"taken_over_from,omitempty"`
		At           string         `json:"taken_over_at,omitempty"`
	}{
		r.PID, r.Kind, append([]string{}, r.Argv...), r.StartTime, r.Scope, r.IdentityHash, r.Metadata, iso(r.UpdatedAt),
		r.HermesHome, r.Profile, r.Format, r.ID, iso(r.AcquiredAt), r.Host, r.BootID, r.PIDNamespace, r.TakenOverFrom, iso(r.TakenOverAt),
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Replace(string(text), `"metadata":null`, `"metadata":{}`, 1)
}

// pidIn is the pid of a JSON object by the old gateways' rule, which is Python's:
// a number with a fraction or an exponent is none. 0 stands for none.
func pidIn(text []byte) int {
	var keys map[string]json.RawMessage
	json.Unmarshal(text, &keys)
	pid, err := strconv.Atoi(string(keys["pid"]))
	if err != nil || pid < 1 || pid > 1<<31-1 {
		return 0
	}
	return pid
}

// Whatever a record holds, it reads without a panic, no flag of a command line
// comes in, and what was read is written and read again unchanged.
func FuzzRecord(f *testing.F) {
	f.Fuzz(func(t *testing.T, text []byte) {
		var first, second flocklock.Record
		err := json.Unmarshal(text, &first)
		if object := bytes.HasPrefix(bytes.TrimLeft(text, " \t\r\n"), []byte("{")) && json.Valid(text); object != (err == nil) {
			t.Errorf("a JSON object: %v, and %v", object, err)
		}
		if err != nil {
			return
		}
		if want := pidIn(text); first.PID != want {
			t.Errorf("PID %d, want %d", first.PID, want)
		}
		for i, word := range first.Argv {
			if i > 0 && strings.HasPrefix(word, "-") || i == 8 || len(word) > 3<<10 { // a bad byte is written as three
				t.Errorf("argv %q", first.Argv)
			}
		}
		if message := first.InUse("x"); (first.PID == 0) == strings.Contains(message, "PID") {
			t.Error(message)
		}
		written, err := json.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		if want := asJSON(t, first); string(written) != want {
			t.Errorf("written as %s, want %s", written, want)
		}
		if err := json.Unmarshal(written, &second); err != nil {
			t.Fatal(err)
		}
		normal := func(r *flocklock.Record) {
			// Microseconds are written, and empty is not told from missing.
			for _, at := range []*time.Time{&r.UpdatedAt, &r.AcquiredAt, &r.TakenOverAt} {
				*at = at.UTC().Truncate(time.Microsecond)
			}
			if len(r.Argv) == 0 {
				r.Argv = nil
			}
			if len(r.Metadata) == 0 {
				r.Metadata = nil
			}
		}
		normal(&first)
		normal(&second)
		for _, at := range []time.Time{first.UpdatedAt, first.AcquiredAt, first.TakenOverAt} {
			if year := at.Year(); year < 0 || year > 9999 {
				return
			}
		}
		if !reflect.DeepEqual(first, second) {
			t.Errorf("%+v became %+v", first, second)
		}
	})
}

// Whatever stands at a record's path, it is judged without a panic or an error,
// with a reason, and what a dry run of the migrator would do agrees.
func FuzzJudge(f *testing.F) {
	const maxRead, highestPID = 64 << 10, 4 << 20 // of Linux, see proc_sys_kernel(5); others' are lower
	dir := flocklock.Dir(f.TempDir())             // one for all, which is ten times as fast
	f.Fuzz(func(t *testing.T, text []byte) {
		put(t, dir, string(text))
		old := time.Now().Add(-time.Minute)
		if err := os.Chtimes(recordPath(dir), old, old); err != nil {
			t.Fatal(err)
		}
		status, err := dir.Inspect(scope, secret)
		if err != nil {
			t.Fatal(err)
		}
		if message := status.String(); strings.ContainsAny(message, "\x00\x1b\n\r") {
			t.Errorf("%q", message)
		}
		var read flocklock.Record
		err = json.Unmarshal(text, &read)
		if i := slices.Index(read.Argv, secret); i >= 0 {
			read.Argv = read.Argv[:i] // it is not told
		}
		if err == nil && len(text) <= maxRead && !reflect.DeepEqual(status.Record, &read) {
			t.Errorf("a record %+v was read as %+v", read, status.Record)
		}
		report, err := dir.Migrate(flocklock.MigrateOptions{DryRun: true})
		if err != nil || len(report) != 1 || report[0].Reason == "" {
			t.Fatalf("%+v, %v", report, err)
		}
		if got := readFile(t, recordPath(dir)); got != string(text) || len(files(t, dir)) != 1 {
			t.Errorf("a look left %q, and %q", got, files(t, dir))
		}
		switch standing := status.Holder.Standing; {
		case status.State == flocklock.Held && (status.Record.PID == 0 || status.Holder.Reason == ""):
			t.Errorf("held by nobody: %+v", status)
		case status.State == flocklock.Held && standing != flocklock.StandingLegacy && standing != flocklock.StandingElsewhere:
			t.Errorf("held by a file: %+v", status)
		case standing == flocklock.StandingLegacy && status.Record.PID > highestPID:
			t.Errorf("a process that cannot be: %+v", status)
		case (status.State == flocklock.Free) != status.Leftover || status.Leftover == (status.Left == ""):
			t.Errorf("%+v", status)
		case (report[0].Action == flocklock.Removed) != status.Leftover:
			t.Errorf("inspect %+v, migrate %+v", status, report[0])
		}
	})
}

// What is a scope and a lock's name, written independently of the package.
var (
	scopes = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	names  = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]{0,127})-([0-9a-f]{16})$`)
)

// nameOf is the name of a lock's files; it looks for them where there are none.
func nameOf(t *testing.T, scope, identity string) (string, error) {
	status, err := flocklock.Dir("no such directory").Inspect(scope, identity)
	if err == nil && (status.State != flocklock.Free || status.Scope+"-"+status.IdentityHash != status.Name) {
		t.Errorf("the name came apart as %+v", status)
	}
	return status.Name, err
}

// Whatever is locked, its files have names of their own inside the directory, on
// every file system, and nothing of the identity is in them (44).
func FuzzName(f *testing.F) {
	f.Fuzz(func(t *testing.T, scope, identity, other string) {
		if _, err := flocklock.Dir("no such directory").Holders(other); (err == nil) != (names.MatchString(other) && filepath.IsLocal(other)) {
			t.Errorf("%q taken for a lock's name: %v", other, err)
		}
		name, err := nameOf(t, scope, identity)
		valid := scopes.MatchString(scope) && identity != "" && utf8.ValidString(identity) && filepath.IsLocal(scope+"-")
		if err != nil {
			if valid || !errors.Is(err, fs.ErrInvalid) {
				t.Errorf("%q: %v", scope, err)
			}
			if len(identity) > 16 && strings.Contains(err.Error(), identity) && !strings.Contains(scope, identity) {
				t.Errorf("%v tells the identity", err)
			}
			return
		}
		sum := sha256.Sum256([]byte(identity))
		if want := scope + "-" + hex.EncodeToString(sum[:])[:16]; !valid || name != want {
			t.Fatalf("%q %q has the name %q, want %q", scope, identity, name, want)
		}
		const longest, longestAddition = 255, len(".") + len("_XXXXXXXX.tmp") // an old gateway's
		if !filepath.IsLocal(name) || filepath.Base(name) != name || strings.ContainsAny(name, `/\:*?"<>|`) || len(name)+longestAddition > longest {
			t.Errorf("%q is no name for a file everywhere", name)
		}
		for _, again := range []string{other, strings.ToUpper(scope), identity} {
			second, err := nameOf(t, again, identity)
			if err == nil && (second == name) != (again == scope) {
				t.Errorf("%q and %q are both named %q", scope, again, name)
			}
			// Where a file system does not tell capitals, the scopes that it takes for
			// one differ in capitals alone: they exclude each other.
			if err == nil && strings.EqualFold(second, name) && !strings.EqualFold(again, scope) {
				t.Errorf("%q and %q share a file where capitals are not told", scope, again)
			}
		}
		if second, err := nameOf(t, scope, identity+other); err == nil && (second == name) != (other == "") {
			t.Errorf("two identities are named %q", name)
		}
	})
}
