// Watching a lock that is held, and what a Logger is told.

package flocklock

import (
	"context"
	"errors"
	"log/slog"
	"time"
)

// The events that a Logger is told of, as the attribute "event". Their names are
// there to stay; the messages beside them are for people. Each has "scope"
// and "path" too.
const (
	EventAcquired  = "acquired"   // a lock was taken; at debug level
	EventRefused   = "refused"    // it is held, "holder" says by whom; at debug level
	EventWaited    = "waited"     // it was taken after waiting "for" a time; at info level, at debug level where that is less than 400 ms
	EventEnding    = "ending"     // the holder, "pid", is asked to end, for a take-over; at warning level
	EventTakenOver = "taken-over" // it has ended, and the lock was taken; at info level
	EventLost      = "lost"       // a lock that is held excludes nobody any more, "err" says why; at error level
	EventRecord    = "record"     // a record was replaced, at info level, or cannot be written, at warning level
)

// event tells the logger of one.
func (o *options) event(level slog.Level, event, message, scope, path string, attrs ...any) {
	if log := o.log(); log.Enabled(context.Background(), level) {
		log.Log(context.Background(), level, "flocklock: "+message,
			append([]any{"event", event, "scope", scope, "path", path}, attrs...)...)
	}
}

// lostLook is how often a lock is looked at once somebody asked for Lost.
const lostLook = 2 * time.Second

// Lost returns a channel that is closed when the lock is seen to exclude nobody
// any more: its file was removed or replaced, another flocklock process holds
// it too, or an old gateway took the record's path. [Lock.Check] then says
// which. A look every two seconds sees it; like Check it puts back a record
// that somebody removed. The first call begins to look, Release ends that and
// does not close the channel.
func (l *Lock) Lost() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == nil {
		l.lost = make(chan struct{})
		if !l.released {
			l.watch = time.AfterFunc(jittered(lostLook), l.lookForLoss)
		}
	}
	return l.lost
}

// lookForLoss checks the lock, and has that done again unless the lock is lost
// or released. The timer's goroutine lives only as long as the look.
func (l *Lock) lookForLoss() {
	err := l.Check()
	lost := errors.Is(err, ErrLost) || errors.Is(err, ErrHeld)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.released:
	case lost:
		close(l.lost)
		l.options.event(slog.LevelError, EventLost, "a lock that is held excludes nobody any more",
			l.scope, l.path, "err", err)
	default:
		l.watch.Reset(jittered(lostLook))
	}
}
