// The ways of taking a lock without waiting, and of being refused one.

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/alexflint/go-filemutex"
	"github.com/flocklock/flocklock"
	"github.com/gofrs/flock"
	"github.com/nightlyone/lockfile"
	"github.com/rogpeppe/go-internal/lockedfile"
)

// A contender prepares, in a directory that others use too, the operation that
// is measured.
type contender struct {
	name    string
	prepare func(c *crew, dir string) (func() error, error)
}

func (c contender) String() string { return c.name }

// acquirers take a free lock and give it back.
var acquirers = []contender{
	{"flocklock", func(_ *crew, dir string) (func() error, error) {
		return func() error { return acquireRelease(flocklock.Dir(dir)) }, nil
	}},
	{"bare calls", func(_ *crew, dir string) (func() error, error) { return prepareBare(dir, noLooks) }},
	{"bare calls, looks", func(_ *crew, dir string) (func() error, error) { return prepareBare(dir, allLooks) }},
	{"gofrs", func(_ *crew, dir string) (func() error, error) {
		path := filepath.Join(dir, "gofrs.flock")
		return func() error {
			lock := flock.New(path)
			if locked, err := lock.TryLock(); !locked {
				return errors.Join(errors.New("gofrs: not locked"), err)
			}
			return lock.Unlock()
		}, nil
	}},
	{"go-filemutex", func(_ *crew, dir string) (func() error, error) {
		path := filepath.Join(dir, "filemutex.flock")
		return func() error {
			lock, err := filemutex.New(path)
			if err == nil {
				err = lock.TryLock()
			}
			if err != nil {
				return err
			}
			return lock.Close() // which unlocks
		}, nil
	}},
	{"lockedfile", func(_ *crew, dir string) (func() error, error) {
		path := filepath.Join(dir, "lockedfile.flock")
		return func() error {
			unlock, err := lockedfile.MutexAt(path).Lock()
			if err != nil {
				return err
			}
			unlock()
			return nil
		}, nil
	}},
	{"nightlyone", func(_ *crew, dir string) (func() error, error) {
		path := filepath.Join(dir, "nightlyone.pid")
		return func() error {
			lock, err := lockfile.New(path)
			if err == nil {
				err = lock.TryLock()
			}
			if err != nil {
				return err
			}
			return lock.Unlock()
		}, nil
	}},
}

// prepareBare has flocklock make the lock file, and the text of the record.
func prepareBare(dir string, look looks) (func() error, error) {
	lock, err := flocklock.Dir(dir).TryAcquire(scope, secret)
	if err != nil {
		return nil, err
	}
	recordPath := recordOf(lock.Path())
	text, err := os.ReadFile(recordPath)
	if err = errors.Join(err, lock.Release()); err != nil {
		return nil, err
	}
	return newBare(lock.Path(), recordPath, text, look)
}

// acquireRelease takes and releases flocklock's lock once.
func acquireRelease(dir flocklock.Dir) error {
	lock, err := dir.TryAcquire(scope, secret)
	if err != nil {
		return err
	}
	return errors.Join(lock.RecordErr(), lock.Release())
}

// refusers are refused by another process, and say by which.
var refusers = []contender{
	{"flocklock", func(c *crew, dir string) (func() error, error) {
		h, err := startHolder(c, dir)
		if err != nil {
			return nil, err
		}
		return func() error {
			_, err := h.dir.TryAcquire(scope, secret)
			var refused *flocklock.HeldError
			if !errors.As(err, &refused) || refused.Holder.Record == nil || refused.Holder.Record.PID != h.pid() {
				return fmt.Errorf("not refused by the holder: %v", err)
			}
			return nil
		}, nil
	}},
	{"gofrs + record", func(c *crew, dir string) (func() error, error) {
		h, err := startHolder(c, dir)
		if err != nil {
			return nil, err
		}
		return func() error {
			if locked, err := flock.New(h.path).TryLock(); locked || err != nil {
				return fmt.Errorf("gofrs: locked %t, %v", locked, err)
			}
			text, err := os.ReadFile(recordOf(h.path))
			if err != nil {
				return err
			}
			var r record
			if err := json.Unmarshal(text, &r); err != nil || r.PID != h.pid() {
				return fmt.Errorf("not the holder's record: %s, %v", text, err)
			}
			return nil
		}, nil
	}},
}

// A holder is a process that holds flocklock's lock.
type holder struct {
	*process
	dir  flocklock.Dir
	path string // of the lock file
}

// startHolder returns a process that holds the lock of a new directory.
func startHolder(c *crew, parent string) (*holder, error) {
	dir, err := os.MkdirTemp(parent, "held")
	if err != nil {
		return nil, err
	}
	p, err := c.start("wait", dir, "flocklock")
	if err == nil {
		err = p.ask("hold", "held")
	}
	if err != nil {
		return nil, err
	}
	status, err := flocklock.Dir(dir).Inspect(scope, secret)
	return &holder{p, flocklock.Dir(dir), filepath.Join(dir, status.Name+".flock")}, err
}

// recordOf is where the record of a lock stands.
func recordOf(lockPath string) string { return lockPath[:len(lockPath)-len(".flock")] + ".lock" }

// record is what somebody who reads a record without flocklock would decode.
type record struct {
	PID          int            `json:"pid"`
	Kind         string         `json:"kind"`
	Argv         []string       `json:"argv"`
	StartTime    *int64         `json:"start_time"`
	Scope        string         `json:"scope"`
	IdentityHash string         `json:"identity_hash"`
	Metadata     map[string]any `json:"metadata"`
	UpdatedAt    string         `json:"updated_at"`
	Format       int            `json:"format"`
	ID           string         `json:"id"`
	AcquiredAt   string         `json:"acquired_at"`
	Host         string         `json:"host"`
	BootID       string         `json:"boot_id"`
	PIDNamespace string         `json:"pid_ns"`
}
