// Waiting for a lock.

package flocklock

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"
)

const (
	firstLook = 2 * time.Millisecond
	lastLook  = 100 * time.Millisecond
)

// Acquire takes the lock of a scope and an identity, and waits for it as long
// as ctx allows.
//
// On success it is as [Dir.TryAcquire]. When ctx ends first nothing is held,
// errors.Is finds ctx.Err() in the error, and errors.As the [*HeldError] that
// says who held the lock at the last look. What waiting cannot cure is returned
// at once, as TryAcquire returns it. A ctx that has ended already is an error
// even where the lock is free.
//
// A lock that this process holds is waited for too: another goroutine may
// release it. Acquire looks again and again, at most a tenth of a second apart,
// so several waiters are served in no particular order.
func (d Dir) Acquire(ctx context.Context, scope, identity string, opts ...Option) (*Lock, error) {
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("flocklock: %s: %w", printable(scope), err)
	}
	for pause := firstLook; ; pause = min(2*pause, lastLook) {
		lock, err := d.TryAcquire(scope, identity, opts...)
		if !errors.Is(err, ErrHeld) {
			return lock, err
		}
		// Waiters that began together must not look together for ever.
		timer := time.NewTimer(pause/2 + rand.N(pause/2))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil, fmt.Errorf("%w (gave up waiting: %w)", err, ctx.Err())
		}
	}
}
