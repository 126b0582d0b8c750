package flocklock_test

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/flocklock/flocklock"
)

var seeds = []string{
	``, `{}`, `null`, `[]`, `1`, `-1`, `"1"`, "\xef\xbb\xbf{}", `{"pid":1`, `{"pid":1.0}`, `{"pid":"1"}`, `{"pid":Infinity}`,
	`{"pid":450,"kind":"hermes-gateway","argv":["hermes","gateway","run"],"start_time":null,"scope":"telegram-bot-token",` +
		`"identity_hash":"2bb80d537b1da3e3","metadata":{"platform":"telegram"},"updated_at":"2026-04-30T12:00:00.000000+00:00"}`,
	`{"pid":1,"format":2,"id":"x","acquired_at":"2026-11-23T00:00:00+00:00","host":"h","boot_id":"b","pid_ns":"1"}`,
	`{"pid":1,"pidns":"unresolved","profile":"work","hermes_home":"/r/profiles/work"}`,
	`{"pid":1,"start_time":18446744073709551615,"updated_at":5,"argv":"x","metadata":[]}`,
}

// Whatever a record holds, it reads without a panic, and what was read is
// written and read again unchanged.
func FuzzRecord(f *testing.F) {
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var first, second flocklock.Record
		if err := json.Unmarshal(text, &first); err != nil {
			return
		}
		if first.PID < 0 || first.PID > 1<<31-1 {
			t.Errorf("PID %d", first.PID)
		}
		if message := first.InUse("x"); (first.PID == 0) == strings.Contains(message, "PID") {
			t.Error(message)
		}
		written, err := json.Marshal(first)
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(written, &second); err != nil {
			t.Fatal(err)
		}
		normal := func(r *flocklock.Record) {
			// Microseconds are written, and empty is not told from missing.
			r.UpdatedAt, r.AcquiredAt = r.UpdatedAt.UTC().Truncate(time.Microsecond), r.AcquiredAt.UTC().Truncate(time.Microsecond)
			if len(r.Argv) == 0 {
				r.Argv = nil
			}
			if len(r.Metadata) == 0 {
				r.Metadata = nil
			}
		}
		normal(&first)
		normal(&second)
		if year := first.UpdatedAt.Year(); year < 0 || year > 9999 {
			return
		}
		if year := first.AcquiredAt.Year(); year < 0 || year > 9999 {
			return
		}
		if !reflect.DeepEqual(first, second) {
			t.Errorf("%+v became %+v", first, second)
		}
	})
}

// Whatever stands at a record's path, it is judged without a panic or an error,
// with a reason, and what a dry run of the migrator would do agrees.
func FuzzJudge(f *testing.F) {
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		dir := newDir(t)
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
		report, err := dir.Migrate(flocklock.MigrateOptions{DryRun: true})
		if err != nil || len(report) != 1 || report[0].Reason == "" {
			t.Fatalf("%+v, %v", report, err)
		}
		switch {
		case status.State == flocklock.Held && (status.Record.PID == 0 || status.Holder.Reason == ""):
			t.Errorf("held by nobody: %+v", status)
		case (status.State == flocklock.Free) != status.Leftover || status.Leftover == (status.Left == ""):
			t.Errorf("%+v", status)
		case (report[0].Action == flocklock.Removed) != status.Leftover:
			t.Errorf("inspect %+v, migrate %+v", status, report[0])
		}
	})
}
