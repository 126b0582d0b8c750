package flocklock_test

// The identity is a secret: nothing that flocklock writes, returns or logs has
// it, whatever goes wrong.

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/flocklock/flocklock"
)

// A witness notes what can be seen of flocklock.
type witness struct {
	t   *testing.T
	dir flocklock.Dir
	log eventLog
}

// sees notes results, and what is in the directory by now.
func (w *witness) sees(results ...any) {
	w.t.Helper()
	for _, r := range results {
		text, _ := json.Marshal(r)
		w.hears(fmt.Sprintf("%v %+v %#v %s", r, r, r, text))
	}
	for _, file := range files(w.t, w.dir) {
		text, _ := os.ReadFile(filepath.Join(string(w.dir), file)) // Windows does not let us read what is locked
		if !strings.Contains(string(text), "--token") {            // else they are an old gateway's own words
			w.hears(file + ": " + string(text))
		}
	}
}

func (w *witness) hears(text string) {
	w.t.Helper()
	if strings.Contains(text, "a-secret") {
		w.t.Errorf("the identity is told: %s", text)
	}
}

// Every operation, with the log at debug level, on what succeeds and on what
// fails, also where the identity is given in place of another word.
func TestIdentityIsNotTold(t *testing.T) {
	w := &witness{t: t, dir: newDir(t)}
	dir, logger := w.dir, slog.New(&w.log)
	defer slog.SetDefault(slog.Default())
	slog.SetDefault(logger) // of the drop-in
	t.Setenv("HERMES_GATEWAY_LOCK_DIR", string(dir))
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	short, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	takeOver := flocklock.TakeOverOptions{Grace: time.Millisecond}

	try := func() {
		t.Helper()
		l, err := dir.TryAcquire(scope, secret, flocklock.WithLogger(logger))
		w.sees(err)
		if err == nil {
			w.sees(l.RecordErr(), l.Release())
		}
	}
	everything := func() {
		t.Helper()
		l, err := dir.TryAcquire(scope, secret, flocklock.WithLogger(logger))
		if err != nil {
			t.Fatal(err)
		}
		w.sees(l.Record(), l.RecordErr(), l.Path())
		_, err = dir.TryAcquire(scope, secret)
		w.sees(err)
		_, err = dir.Acquire(ended, scope, secret)
		w.sees(err)
		_, err = dir.TakeOver(t.Context(), scope, secret, takeOver)
		w.sees(err, dir.EndHolder(t.Context(), name, takeOver), dir.Clear(name))
		found, err := dir.Holders(name)
		w.sees(found, err)
		w.look()
		w.sees(l.Check(), l.Release(), l.Check(), l.Release())
		w.look()
	}
	everything()

	l := mustAcquire(t, dir)
	_, err := dir.Acquire(short, scope, secret, flocklock.OnWait(func(wait flocklock.Wait) { w.sees(wait) }))
	w.sees(err, l.Release())
	ok, existing, err := flocklock.AcquireScopedLock(scope, secret, nil)
	w.sees(ok, existing, err)
	ok, existing, err = flocklock.AcquireScopedLock(scope, secret, nil)
	w.sees(ok, existing, err, flocklock.ReleaseScopedLock(scope, secret))
	n, err := flocklock.ReleaseAllScopedLocks()
	w.sees(n, err)

	// In place of a scope, and of a name.
	_, err = dir.TryAcquire(secret, scope)
	w.sees(err)
	_, err = dir.Inspect(secret, scope)
	w.sees(err)
	_, err = dir.Holders(secret)
	w.sees(err, dir.Clear(secret), dir.EndHolder(t.Context(), secret, takeOver))

	// A word of a command line, as an old gateway's record and the system tell it.
	for _, program := range []string{"hermes-gateway", "bot"} {
		p := spawn(t, "idle", nil, as(program, secret))
		p.expect("ready")
		argv := []string{program, secret, "--token", secret}
		for _, put := range []func(){
			func() { putLegacy(t, dir, p.pid(), legacy{"argv": argv}) },
			func() { putLegacy(t, dir, p.pid(), legacy{"argv": argv, "start_time": startOf(t, p.pid())}) },
			func() { put(t, dir, fmt.Sprint(p.pid())) },
		} {
			put()
			w.look()
			try()
			put()
			report, err := dir.Migrate(flocklock.MigrateOptions{Logger: logger})
			w.sees(report, err)
			w.look()
		}
		p.kill()
		everything() // over what is left of it
	}
	// What cannot be locked, and what cannot be written.
	for _, path := range []string{recordPath(dir), lockPath(dir)} {
		os.Remove(path)
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		if path == recordPath(dir) {
			everything()
		}
		try()
		w.look()
	}

	for _, line := range w.log.all() {
		w.hears(line)
	}
	for _, event := range []string{flocklock.EventAcquired, flocklock.EventRecord} {
		if !w.log.saw(event) {
			t.Errorf("no event %q was logged", event)
		}
	}
}

// look notes what those say who only look.
func (w *witness) look() {
	w.t.Helper()
	status, err := w.dir.Inspect(scope, secret)
	w.sees(status, err)
	list, err := w.dir.List()
	w.sees(list, err)
	report, err := w.dir.Migrate(flocklock.MigrateOptions{DryRun: true})
	w.sees(report, err)
}
