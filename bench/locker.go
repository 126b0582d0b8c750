// The ways of waiting for a lock.

package main

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/flocklock/flocklock"
	"github.com/gofrs/flock"
)

const (
	scope  = "telegram-bot-token"
	secret = "123456:a-secret-token"
)

// A locker waits for the lock of a directory and takes it.
type locker struct {
	name    string
	acquire func(ctx context.Context, dir string) (release func() error, err error)
}

func (l locker) String() string { return l.name }

var lockers = []locker{
	{"flocklock", acquireFlocklock},
	{"flock(2)", blockInFlock},
	{"flock + record", blockInFlockAndRecord},
	{"gofrs, 1 ms", polling(time.Millisecond)},
	{"gofrs, 10 ms", polling(10 * time.Millisecond)},
	{"gofrs, 50 ms", polling(50 * time.Millisecond)},
}

func acquireFlocklock(ctx context.Context, dir string) (release func() error, err error) {
	lock, err := flocklock.Dir(dir).Acquire(ctx, scope, secret)
	if err != nil {
		return nil, err
	}
	return lock.Release, lock.RecordErr()
}

// polling is gofrs's way to wait, which looks again and again.
func polling(every time.Duration) func(context.Context, string) (func() error, error) {
	return func(ctx context.Context, dir string) (func() error, error) {
		lock := flock.New(filepath.Join(dir, "gofrs.flock"))
		locked, err := lock.TryLockContext(ctx, every)
		if err == nil && !locked {
			err = errors.New("gofrs: not locked")
		}
		return lock.Unlock, err
	}
}
