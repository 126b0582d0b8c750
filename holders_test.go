package flocklock_test

// Who really holds a lock, on every system.

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/flocklock/flocklock"
)

// mustHold says that just these processes hold the lock. It skips the test where
// the system does not tell. There may be processes that even root cannot look
// at, as the first one of a virtual machine.
func mustHold(t *testing.T, dir flocklock.Dir, pids ...int) []flocklock.Process {
	t.Helper()
	found, err := dir.Holders(name)
	if errors.Is(err, errors.ErrUnsupported) && len(found) == 0 {
		mustPathError(t, err)
		t.Skip("this system does not tell who holds a lock: ", err)
	}
	if err != nil && !errors.Is(err, fs.ErrPermission) {
		t.Fatalf("%v, %v", found, err)
	}
	var got []int
	for _, p := range found {
		got = append(got, p.PID)
	}
	slices.Sort(got)
	slices.Sort(pids)
	if !slices.Equal(got, pids) {
		t.Fatalf("held by %v, want the PIDs %v", found, pids)
	}
	return found
}

func TestHoldersOfNothing(t *testing.T) {
	dir := newDir(t)
	for _, d := range []flocklock.Dir{dir, flocklock.Dir(filepath.Join(string(dir), "none"))} {
		if found, err := d.Holders(name); found != nil || err != nil {
			t.Errorf("no lock file: %v, %v", found, err)
		}
	}
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("it made %v", got)
	}
	mustSettle(t, dir)
	if found, err := dir.Holders(name); found != nil || err != nil {
		t.Errorf("a free lock: %v, %v", found, err)
	}
	owner := gateway(t)
	putLegacy(t, dir, owner.pid(), legacy{"start_time": startOf(t, owner.pid())})
	mustRefuse(t, dir, flocklock.StandingLegacy)
	if found, err := dir.Holders(name); found != nil || err != nil {
		t.Errorf("an old gateway's, by its record: %v, %v", found, err)
	}
	for _, bad := range []string{"", scope, "../" + name, name + ".flock", secret, "x/../" + name, "-0e0cf2ce43b0a59a"} {
		found, err := dir.Holders(bad)
		if found != nil || !errors.Is(err, fs.ErrInvalid) || bad != "" && strings.Contains(err.Error(), bad) {
			t.Errorf("%q: %v, %v", bad, found, err)
		}
	}
	odd := newDir(t)
	if err := os.Mkdir(lockPath(odd), 0o700); err != nil {
		t.Fatal(err)
	}
	if found, err := odd.Holders(name); found != nil || err == nil {
		t.Errorf("a directory in place of the lock file: %v, %v", found, err)
	}
	if _, err := flocklock.Dir("").Holders(name); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("no directory: %v", err)
	}
}

// The owner is named, without the identity that stands on its command line.
func TestHoldersOwner(t *testing.T) {
	dir := newDir(t)
	l := mustAcquire(t, dir)
	mustHold(t, dir, os.Getpid())
	l.Release()
	mustHold(t, dir)
	holder := spawn(t, "hold", []string{string(dir), scope, secret})
	holder.expect("held")
	found := mustHold(t, dir, holder.pid())
	if want := []string{executable(), string(dir), scope}; !slices.Equal(found[0].Argv, want) {
		t.Errorf("argv %q, want %q", found[0].Argv, want)
	}
	if got := found[0].String(); !contains(got, filepath.Base(executable())+" ", "PID ") {
		t.Error(got)
	}
	holder.kill()
	waitFree(t, dir)
	mustHold(t, dir)
}

// waitFree waits for the system to drop a killed process's lock.
func waitFree(t *testing.T, dir flocklock.Dir) {
	t.Helper()
	until(t, "the lock is free", func() bool {
		status, err := dir.Inspect(scope, secret)
		return err != nil || status.State == flocklock.Free
	})
}

// A process whose command line would write on the terminal.
func TestProcessString(t *testing.T) {
	for want, p := range map[string]flocklock.Process{
		`sh a\x1b[2Jb (PID 7)`:                            {PID: 7, Argv: []string{"/bin/sh", "a\x1b[2Jb"}},
		"a process (PID 7)":                               {PID: 7},
		"sh (a PID that cannot be seen from here)":        {Argv: []string{`C:\bin\sh`}},
		"a process (a PID that cannot be seen from here)": {},
	} {
		if got := p.String(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
