// How run waits for the lock, and what it tells meanwhile.

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/flocklock/flocklock"
	"golang.org/x/term"
)

// A taken is what became of an acquire.
type taken struct {
	lock *flocklock.Lock
	err  error
}

// answerTime is how long the system may take to answer when the time is up, or a
// signal has come. What it grants after that is freed by the end of this process.
const answerTime = 500 * time.Millisecond

// acquire takes the lock, ends its holder where --replace says so, and waits for
// it as long as --wait and ctx allow. It returns then even where the system does
// not answer.
func (r *runner) acquire(ctx context.Context) (*flocklock.Lock, error) {
	waits, done := make(chan flocklock.Wait), make(chan taken, 1)
	go func() { // ends with the process, if the system never answers
		lock, err := r.take(ctx, waits)
		done <- taken{lock, err}
	}()
	line := waitLine{out: os.Stderr, began: time.Now()}
	if term.IsTerminal(int(os.Stderr.Fd())) {
		second := time.NewTicker(time.Second)
		defer second.Stop()
		line.second = second.C
	}
	var tooLate <-chan time.Time
	if r.wait > 0 && !r.takesOver { // whose grace comes before the wait
		tooLate = time.After(r.wait + answerTime)
	}
	ended := ctx.Done()
	for {
		select {
		case w := <-waits:
			line.tell(w)
		case <-line.second:
			line.count()
		case <-ended:
			ended, tooLate = nil, time.After(answerTime)
		case <-tooLate:
			line.clear()
			return nil, &exitError{exitHeld, errors.New("the system does not answer whether the lock is held; try again later")}
		case got := <-done:
			line.end(got.err == nil)
			return got.lock, got.err
		}
	}
}

// take takes the lock, and sends who is waited for.
func (r *runner) take(ctx context.Context, waits chan<- flocklock.Wait) (*flocklock.Lock, error) {
	profile := flocklock.WithProfile(r.profile)
	try := r.dir.TryAcquire
	if r.takesOver {
		try = func(scope, identity string, opts ...flocklock.Option) (*flocklock.Lock, error) {
			return r.dir.TakeOver(ctx, scope, identity, r.takeOver, opts...)
		}
	}
	lock, refused := try(r.scope, r.identity, profile)
	if r.wait == 0 || !errors.Is(refused, flocklock.ErrHeld) {
		return lock, refused
	}
	if errors.Is(refused, flocklock.ErrNotTakenOver) {
		fmt.Fprintln(os.Stderr, refused)
	}
	ctx, cancel := context.WithTimeout(ctx, r.wait)
	defer cancel()
	lock, err := r.dir.Acquire(ctx, r.scope, r.identity, profile, flocklock.OnWait(func(w flocklock.Wait) {
		select {
		case waits <- w:
		case <-ctx.Done():
		}
	}))
	if ctx.Err() != nil && err != nil && !errors.Is(err, flocklock.ErrHeld) {
		return nil, refused // no time was left for another look
	}
	return lock, err
}

// A waitLine tells of a wait: a line for each holder, and one at the end. On a
// terminal a last line counts the seconds.
type waitLine struct {
	out    io.Writer
	began  time.Time
	second <-chan time.Time // nil: no terminal
	told   bool
}

func (l *waitLine) tell(w flocklock.Wait) {
	l.clear()
	fmt.Fprintf(l.out, "flocklock: %s\n", w)
	l.told = true
	l.count()
}

func (l *waitLine) count() {
	if l.told && l.second != nil {
		fmt.Fprintf(l.out, "\rflocklock: waited for %s", l.seconds())
	}
}

// clear makes room for another line where the seconds stand. Spaces do, which
// every terminal knows.
func (l *waitLine) clear() {
	if l.told && l.second != nil {
		fmt.Fprintf(l.out, "\r%*s\r", len("flocklock: waited for ")+len(l.seconds())+1, "")
	}
}

// end says that the lock was got; why it was not, the error will say.
func (l *waitLine) end(got bool) {
	l.clear()
	if l.told && got {
		fmt.Fprintf(l.out, "flocklock: got the lock after %.1f s\n", time.Since(l.began).Seconds())
	}
}

func (l *waitLine) seconds() string {
	return fmt.Sprintf("%d s", time.Since(l.began)/time.Second)
}
