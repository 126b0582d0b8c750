// Waiting for a lock without polling: one parked waiter a lock file, shared by
// all goroutines of this process that want that lock.

package flocklock

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/gofrs/flock"
)

const (
	// quietWait is how long a wait lasts before [OnWait] tells of it, and a logger
	// at info level, so that a short hand-over is silent.
	quietWait = 400 * time.Millisecond

	// While somebody waits in the kernel, looks see who holds the lock, and
	// whether its file is still the one that the kernel waits for: one after
	// firstLook, then one after secondLook, then each after twice the time, up
	// to lastLook. A look makes the runtime's monitor run, which costs more than
	// the look.
	firstLook  = 350 * time.Millisecond
	secondLook = 2 * time.Second
	lastLook   = 4 * time.Second

	// Looks see too whether an old gateway's record is still there, each after
	// twice the time. gatewayPatience is how long that alone is believed.
	firstGatewayLook = 150 * time.Millisecond
	lastGatewayLook  = 2 * time.Second
	gatewayPatience  = 30 * time.Second

	// maxParked bounds the goroutines in the kernel's wait, each of which has a
	// thread: the Go runtime ends a program that has 10,000. Beyond the bound a
	// waiter tries again and again, each time after twice the time.
	maxParked    = 1000
	firstAttempt = 50 * time.Millisecond
	lastAttempt  = time.Second

	// maxStrays bounds, for one lock, the goroutines that wait in the kernel
	// for a lock file which is not at its path any more. With so many the lock
	// is tried again and again, too.
	maxStrays = 8
)

// A Wait is what [OnWait] tells of a wait for a lock.
type Wait struct {
	Scope  string
	Holder Holder        // at the last look
	For    time.Duration // since Acquire was called
}

// String says what is waited for, who holds it, and since when.
func (w Wait) String() string { return "waiting for " + w.Scope + ", " + w.Holder.held() }

// OnWait sets what is called when [Dir.Acquire] has waited for 400 ms, and again
// whenever the holder has changed, which it sees within a few seconds. The
// goroutine that called Acquire makes the calls, and makes none after Acquire
// has returned. While one lasts, neither the end of the context nor the lock is
// noticed, so it must return soon, and must not wait for the same lock.
func OnWait(tell func(Wait)) Option {
	return func(o *options) { o.onWait = tell }
}

// Acquire takes the lock of a scope and an identity, and waits for it as long
// as ctx allows.
//
// On success it is as [Dir.TryAcquire]. When ctx ends first nothing is held,
// errors.Is finds ctx.Err() in the error, and errors.As the [*HeldError] that
// says who held the lock at the last look, if the system has let us look. What
// waiting cannot cure is returned at once, as TryAcquire returns it. A ctx that
// has ended already is an error even where the lock is free.
//
// Acquire waits in the kernel and is woken by it. The goroutines of a process
// are served first come, first served; between processes the kernel decides.
// TryAcquire does not stand in line. When ctx ends, Acquire returns at once,
// even while the kernel does not answer, as with a network file system whose
// server is gone. What its wait leaves behind, one goroutine with one thread
// and one descriptor a lock file, serves the next wait for that lock, and is
// gone when the lock has been free for a moment; threads the Go runtime keeps
// for other use. In a process that waits for more than 1,000 locks, those
// beyond are tried every second instead. Only where ctx can never end does
// Acquire take a lock that is free without starting a goroutine.
//
// What looks like a gateway is asked, and the logger told, by another goroutine
// than the caller's, and perhaps after Acquire has returned.
//
// An old gateway holds no kernel lock. Acquire waits for the end of its process,
// or for its record to go, which it sees within three seconds; where the system
// does not tell of a process's end, that too.
//
// A lock that this process holds is waited for too: another goroutine may
// release it. Not so on Solaris and AIX; see there in the package's
// documentation.
//
// # Linux
//
// flock(2) blocks; an old gateway's process is watched through pidfd_open(2).
//
// # macOS
//
// flock(2) blocks; an old gateway's process is watched through kqueue(2).
//
// # Windows
//
// LockFileEx blocks; an old gateway's process is watched through its handle.
func (d Dir) Acquire(ctx context.Context, scope, identity string, opts ...Option) (*Lock, error) {
	r, err := d.request(scope, identity, opts)
	if err != nil {
		return nil, err
	}
	return r.wait(ctx)
}

// wait takes the lock, and waits for it as long as ctx allows.
func (r request) wait(ctx context.Context) (*Lock, error) {
	began := time.Now()
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("flocklock: %s: %w", r.scope, err)
	}
	if ctx.Done() == nil && !held.waiting.anyone(r) { // nothing can end the call, whatever the kernel does
		lock, err := r.acquire()
		if !errors.Is(err, ErrHeld) {
			return lock, err
		}
	}
	w, t := held.waiting.join(r)
	returning := false
	defer func() {
		if !returning { // the caller's own function panicked
			w.desert(t)
		}
	}()
	var quiet <-chan time.Time
	if r.options.onWait != nil {
		timer := time.NewTimer(quietWait)
		defer timer.Stop()
		quiet = timer.C
	}
	told := notSeen
	tell := func() {
		told = w.lastHolder()
		r.options.onWait(Wait{r.scope, told, time.Since(began)})
	}
	for {
		select {
		case got := <-t.got:
			returning = true
			return r.got(w, got, began)
		case <-ctx.Done():
			returning = true
			if !w.leave(t) { // it was served a moment ago
				return r.got(w, <-t.got, began)
			}
			return nil, gaveUp(r.scope, w.lastHolder(), ctx.Err())
		case <-quiet:
			quiet = nil
			tell()
		case <-t.changed:
			h := w.lastHolder()
			if r.options.onWait != nil && quiet == nil && !h.unverified() && !h.sameAs(told) {
				tell()
			}
		}
	}
}

// got is what a wait came to.
func (r request) got(w *waiter, o outcome, began time.Time) (*Lock, error) {
	if o.err == nil && w.lastHolder() != notSeen {
		waited, level := time.Since(began), slog.LevelDebug
		if waited >= quietWait {
			level = slog.LevelInfo
		}
		o.lock.tell(level, EventWaited, "took a lock after a wait", "for", waited)
	}
	return o.lock, o.err
}

// gaveUp is the error of an Acquire whose context has ended.
func gaveUp(scope string, h Holder, err error) error {
	if h == notSeen {
		return fmt.Errorf("flocklock: %s: gave up waiting: %w", scope, err)
	}
	return fmt.Errorf("%w (gave up waiting: %w)", &HeldError{scope, h}, err)
}

// notSeen is the holder before the first look.
var notSeen = Holder{StandingUnknown, nil, "the system has not let us look yet"}

// sameAs reports whether two looks saw the same holder in the same state.
func (h Holder) sameAs(other Holder) bool {
	if h.Standing != other.Standing || h.Record == nil || other.Record == nil {
		return h.Standing == other.Standing && h.Record == other.Record
	}
	return h.Record.ID == other.Record.ID && h.Record.PID == other.Record.PID
}

// waiting is every waiter of this process.
type waiting struct {
	mu      sync.Mutex         // guards the waiters' fields too
	waiters map[string]*waiter // by the path of the lock file
	parked  int                // goroutines in the kernel's wait
}

// A waiter takes one lock for the goroutines of this process that wait for it,
// one after the other. Its own goroutine, [waiter.run], makes every call that
// the kernel may not answer; it ends when nobody waits any more, as soon as the
// kernel lets it.
type waiter struct {
	dir    Dir
	name   string
	path   string    // of the lock file
	turns  list.List // of *turn, first come, first served
	holder Holder    // at the last look

	// epoch numbers the goroutine that serves the turns. One that waits in the
	// kernel for a file which is not at the path any more is left behind as a
	// stray, and a new one goes on.
	epoch  int
	strays int
	parked bool        // in the kernel's wait
	aim    fs.FileInfo // the lock file that this wait is for; nil: it was not there

	timer   *time.Timer   // of the next look
	pause   time.Duration // before the look after that
	looking bool          // a look may last: the kernel may not answer
}

// A turn is the place of one Acquire in the line.
type turn struct {
	request
	place   *list.Element // nil: it has left, or was served
	got     chan outcome  // has room, and is sent one outcome unless the turn left
	changed chan struct{} // has room; the holder may be another
}

type outcome struct {
	lock *Lock
	err  error
}

// anyone reports whether a goroutine of this process waits for a lock.
func (ws *waiting) anyone(r request) bool {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := ws.waiters[r.path]
	return w != nil && w.turns.Len() > 0
}

// join stands in line for a lock.
func (ws *waiting) join(r request) (*waiter, *turn) {
	t := &turn{request: r, got: make(chan outcome, 1), changed: make(chan struct{}, 1)}
	ws.mu.Lock()
	defer ws.mu.Unlock()
	w := ws.waiters[r.path]
	if w == nil {
		w = &waiter{dir: r.dir, name: r.name, path: r.path, holder: notSeen}
		if ws.waiters == nil {
			ws.waiters = make(map[string]*waiter)
		}
		ws.waiters[r.path] = w
		go w.run(w.epoch)
	}
	t.place = w.turns.PushBack(t)
	if w.parked && w.turns.Len() == 1 {
		// Nobody has looked for a while: the holder may be another by now, and
		// the lock file too.
		w.holder = notSeen
		w.startLooks(0)
	}
	return w, t
}

// leave gives up a place in the line. It reports false where the turn has been
// served already.
func (w *waiter) leave(t *turn) bool {
	held.waiting.mu.Lock()
	defer held.waiting.mu.Unlock()
	return w.remove(t)
}

// desert leaves the line and releases what the turn may have got.
func (w *waiter) desert(t *turn) {
	if !w.leave(t) {
		if got := <-t.got; got.lock != nil {
			t.giveUp(got.lock)
		}
	}
}

// remove takes a turn out of the line.
func (w *waiter) remove(t *turn) bool {
	if t.place == nil {
		return false
	}
	w.turns.Remove(t.place)
	t.place = nil
	if w.turns.Len() == 0 && w.timer != nil {
		w.timer.Stop()
	}
	return true
}

// run serves the turns until there is none, or until a later run does.
func (w *waiter) run(epoch int) {
	ended := false
	defer func() {
		if !ended { // the caller's own functions may panic in there, or end the goroutine
			w.fail()
		}
	}()
	pause := firstAttempt
	for w.serving(epoch) != nil {
		file, info, err := w.lock(epoch)
		t := w.serving(epoch)
		switch {
		case t == nil:
			if err == nil {
				w.giveBack(file)
			}
			ended = true
			return
		case errors.Is(err, errWouldBlock): // too many wait in the kernel
			time.Sleep(jittered(pause))
			pause = min(2*pause, lastAttempt)
		case err != nil:
			w.serve(t, nil, err)
		default:
			w.hold(epoch, t, file, info)
		}
	}
	ended = true
}

// serving returns the turn to be served. It is nil for a run that ends: nobody
// waits, and then the waiter ends too, or a later run serves the turns.
func (w *waiter) serving(epoch int) *turn {
	ws := &held.waiting
	ws.mu.Lock()
	defer ws.mu.Unlock()
	switch {
	case w.epoch != epoch:
		w.strays--
		return nil
	case w.turns.Len() == 0:
		delete(ws.waiters, w.path)
		return nil
	}
	return w.first()
}

// fail ends the waiter, whose goroutine ends in disorder.
func (w *waiter) fail() {
	ws := &held.waiting
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if ws.waiters[w.path] == w {
		delete(ws.waiters, w.path)
	}
	for w.turns.Len() > 0 {
		t := w.first()
		w.remove(t)
		t.got <- outcome{nil, fmt.Errorf("flocklock: %s: a function given as an option did not return", w.name)}
	}
}

func (w *waiter) first() *turn { return w.turns.Front().Value.(*turn) }

// lock takes the kernel's lock, and waits in the kernel for it. errWouldBlock
// means that it must not wait, or not for the file at hand.
func (w *waiter) lock(epoch int) (*flock.Flock, fs.FileInfo, error) {
	file, info, err := w.dir.lock(w.path, (*flock.Flock).TryLock)
	if !errors.Is(err, errWouldBlock) {
		return file, info, err
	}
	w.seeHolder(epoch)
	if crowded() {
		return nil, nil, errWouldBlock
	}
	return w.dir.lock(w.path, func(file *flock.Flock) (bool, error) {
		aim, err := os.Lstat(w.path)
		if err != nil {
			aim = nil // it is made by opening it
		}
		if !w.park(epoch, aim) {
			return false, nil
		}
		defer w.unpark(epoch)
		err = file.Lock()
		return err == nil, err
	})
}

func crowded() bool {
	held.waiting.mu.Lock()
	defer held.waiting.mu.Unlock()
	return held.waiting.parked >= maxParked
}

// park notes which file the kernel's wait is for, unless it must not begin.
func (w *waiter) park(epoch int, aim fs.FileInfo) bool {
	ws := &held.waiting
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if w.epoch != epoch || w.turns.Len() == 0 || ws.parked >= maxParked || w.strays >= maxStrays {
		return false
	}
	ws.parked++
	w.parked, w.aim = true, aim
	w.startLooks(firstLook)
	return true
}

func (w *waiter) unpark(epoch int) {
	ws := &held.waiting
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.parked--
	if w.epoch == epoch {
		w.parked = false
		w.timer.Stop()
	}
}

// startLooks has looks made for as long as somebody waits.
func (w *waiter) startLooks(d time.Duration) {
	w.pause = secondLook
	w.lookAfter(d)
}

// lookAfter has a look made after a while. The timer's goroutine lives only as
// long as the look.
func (w *waiter) lookAfter(d time.Duration) {
	if w.timer == nil {
		w.timer = time.AfterFunc(d, w.look)
	} else {
		w.timer.Reset(d)
	}
}

// look sees, during the kernel's wait, who holds the lock and whether the wait
// is still for the file at the lock's path.
func (w *waiter) look() {
	epoch, aim, begun := w.beginLook()
	if !begun {
		return
	}
	defer w.endLook()
	at, err := os.Lstat(w.path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && (aim == nil || !os.SameFile(at, aim)) {
		w.goAstray(epoch)
	} else {
		w.seeHolder(epoch)
	}
}

// beginLook returns the file that the kernel's wait is for. No look begins where
// there is no such wait, nobody to tell, or a look that has not come to its end.
func (w *waiter) beginLook() (epoch int, aim fs.FileInfo, begun bool) {
	held.waiting.mu.Lock()
	defer held.waiting.mu.Unlock()
	if w.looking || !w.parked || w.turns.Len() == 0 {
		return 0, nil, false
	}
	w.looking = true
	return w.epoch, w.aim, true
}

// endLook has the next look made while somebody waits.
func (w *waiter) endLook() {
	held.waiting.mu.Lock()
	defer held.waiting.mu.Unlock()
	w.looking = false
	if w.parked && w.turns.Len() > 0 {
		w.lookAfter(jittered(w.pause))
		w.pause = min(2*w.pause, lastLook)
	}
}

// goAstray leaves a run behind in the kernel and lets another serve the turns.
func (w *waiter) goAstray(epoch int) {
	held.waiting.mu.Lock()
	defer held.waiting.mu.Unlock()
	if w.epoch != epoch || !w.parked {
		return
	}
	w.strays++
	w.epoch++
	w.parked = false
	go w.run(w.epoch)
}

// seeHolder sees who holds a lock that the kernel refused, and tells the turns
// if that is another than before.
func (w *waiter) seeHolder(epoch int) {
	if t := w.peek(epoch); t != nil {
		w.setHolder(w.dir.holder(w.name, t.options))
	}
}

// peek returns the first turn, and nil where a later run serves it.
func (w *waiter) peek(epoch int) *turn {
	held.waiting.mu.Lock()
	defer held.waiting.mu.Unlock()
	if w.epoch != epoch || w.turns.Len() == 0 {
		return nil
	}
	return w.first()
}

func (w *waiter) setHolder(h Holder) {
	held.waiting.mu.Lock()
	defer held.waiting.mu.Unlock()
	changed := !h.sameAs(w.holder)
	w.holder = h
	if !changed {
		return
	}
	for e := w.turns.Front(); e != nil; e = e.Next() {
		select {
		case e.Value.(*turn).changed <- struct{}{}:
		default:
		}
	}
}

func (w *waiter) lastHolder() Holder {
	held.waiting.mu.Lock()
	defer held.waiting.mu.Unlock()
	return w.holder
}

// hold makes the Lock of a turn, for which the kernel's lock has been got. Where
// an old gateway owns the record's path it waits for that one.
func (w *waiter) hold(epoch int, t *turn, file *flock.Flock, info fs.FileInfo) {
	lock, err := t.hold(file, info)
	var refused *HeldError
	if errors.As(err, &refused) {
		w.setHolder(refused.Holder)
		w.awaitGateway(epoch, t)
		return
	}
	w.serve(t, lock, err)
}

// serve gives a turn what came of it. A lock that it does not want any more is
// released.
func (w *waiter) serve(t *turn, lock *Lock, err error) {
	held.waiting.mu.Lock()
	wanted := w.remove(t)
	if wanted {
		t.got <- outcome{lock, err}
	}
	held.waiting.mu.Unlock()
	if !wanted && lock != nil {
		t.giveUp(lock)
	}
}

// giveUp releases a lock that nobody wants any more.
func (t *turn) giveUp(lock *Lock) {
	if err := lock.Release(); err != nil {
		t.options.event(slog.LevelWarn, EventRecord, "a lock that nobody wants any more was not given back in order",
			t.scope, lock.path, "err", err)
	}
}

// giveBack unlocks a file of which no Lock was made. What the system may refuse
// there is left to the end of the descriptor, which nobody else knows.
func (w *waiter) giveBack(file *flock.Flock) {
	if err := unlock(file); err != nil {
		scope, _, _ := splitName(w.name)
		(&options{}).event(slog.LevelWarn, EventRecord, "a lock that nobody wants any more was not given back in order",
			scope, w.path, "err", err)
	}
}

// awaitGateway waits until the old gateway that owns the record's path may do so
// no more: its process has ended, the record has changed, it is time to judge
// it anew, or the turn, whose options judge it, has left.
func (w *waiter) awaitGateway(epoch int, t *turn) {
	path := w.dir.path(w.name, recordSuffix)
	found, err := readContent(path)
	if err != nil || found.info == nil {
		time.Sleep(lookAgain) // and the next attempt says more
		return
	}
	gateway := openHandle(found.record.pid())
	defer func() { gateway.close() }()
	// Only now, for before it was opened the PID may have gone to another process.
	v := judge(found, t.options.looksLikeGateway)
	if v.elsewhere {
		gateway.close()
		gateway = handle{}
	}
	pause := firstGatewayLook
	for until := time.Now().Add(gatewayPatience); v.live && time.Now().Before(until); pause = min(2*pause, lastGatewayLook) {
		ended := gateway.wait(jittered(pause))
		if w.peek(epoch) != t || !standsAt(path, found.mark) {
			return
		}
		if ended || !gateway.open {
			v = judge(found, t.options.looksLikeGateway)
		}
		if ended { // where the judge sees it alive all the same, to wait for it would spin
			gateway.close()
			gateway = handle{}
		}
	}
}

// wait waits for a while, and reports whether the process has ended.
func (h handle) wait(d time.Duration) bool {
	if !h.open {
		time.Sleep(d)
		return false
	}
	return h.ended(d)
}

// jittered is d, more or less, so that waiters that began together do not look
// together for ever.
func jittered(d time.Duration) time.Duration {
	if d < 4 {
		return d
	}
	return d - d/4 + rand.N(d/2)
}
