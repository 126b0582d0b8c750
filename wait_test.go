package flocklock_test

// Waiting: in turn, for as long as the context allows, and with nothing left
// behind.

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flocklock/flocklock"
	"go.uber.org/goleak"
)

// until waits for a condition.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(hang); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("it does not come to pass: %s", what)
		}
	}
}

// noLeak sees that a test leaves no goroutine behind.
func noLeak(t *testing.T) {
	before := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		var err error
		for end := time.Now().Add(hang); time.Now().Before(end); {
			if err = goleak.Find(before); err == nil {
				return
			}
		}
		t.Error(err)
	})
}

// entries counts what is in a directory of /proc/self: fd, task. It is 0 where
// that is not Linux's own.
func entries(dir string) int {
	if runtime.GOOS != "linux" {
		return 0
	}
	found, _ := os.ReadDir("/proc/self/" + dir)
	return len(found)
}

func holder(t *testing.T, dir flocklock.Dir) *proc {
	t.Helper()
	p := spawn(t, "hold", []string{string(dir), scope, secret})
	p.expect("held")
	return p
}

// A waiting is an Acquire in a goroutine.
type waiting struct {
	t      *testing.T
	cancel context.CancelFunc
	got    chan acquired
}

func wait(t *testing.T, dir flocklock.Dir, opts ...flocklock.Option) *waiting {
	ctx, cancel := context.WithCancel(context.Background())
	w := &waiting{t, cancel, make(chan acquired, 1)}
	t.Cleanup(cancel)
	go func() {
		l, err := dir.Acquire(ctx, scope, secret, opts...)
		w.got <- acquired{l, err}
	}()
	return w
}

// lock is what the wait came to.
func (w *waiting) lock() *flocklock.Lock {
	w.t.Helper()
	got := promptly(w.t, func() acquired { return <-w.got })
	if got.err != nil {
		w.t.Fatal(got.err)
	}
	return got.lock
}

func (w *waiting) err() error {
	w.t.Helper()
	got := promptly(w.t, func() acquired { return <-w.got })
	if got.lock != nil {
		w.t.Fatal("it got the lock")
	}
	return got.err
}

// settleWaiting waits until so many goroutines wait, and the kernel's wait has
// begun.
func settleWaiting(t *testing.T, dir flocklock.Dir, turns int) {
	t.Helper()
	until(t, fmt.Sprintf("%d goroutines wait", turns), func() bool {
		n, parked := flocklock.Waiting(dir, name)
		return n == turns && parked
	})
}

func TestWaitersAreServedInTurn(t *testing.T) {
	noLeak(t)
	dir := newDir(t)
	p := holder(t, dir)
	var mu sync.Mutex
	var order []int
	var all sync.WaitGroup
	for i := range 20 {
		all.Go(func() {
			l, err := dir.Acquire(t.Context(), scope, secret)
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			l.Release()
		})
		settleWaiting(t, dir, i+1)
	}
	p.finish()
	promptly(t, func() bool { all.Wait(); return true })
	if len(order) != 20 || !slices.IsSorted(order) {
		t.Errorf("served in the order %v", order)
	}
}

// 10,000 waits that give up share one waiter, which ends when the lock has been
// free for a moment.
func TestCancelledWaitsLeaveOneBehind(t *testing.T) {
	noLeak(t)
	dir := newDir(t)
	p := holder(t, dir)
	goroutines, descriptors, threads := runtime.NumGoroutine(), entries("fd"), entries("task")
	for range 10 {
		var all sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		for range 1000 {
			all.Go(func() {
				if _, err := dir.Acquire(ctx, scope, secret); !errors.Is(err, context.Canceled) {
					t.Errorf("err = %v", err)
				}
			})
		}
		settleWaiting(t, dir, 1000)
		cancel()
		promptly(t, func() bool { all.Wait(); return true })
	}
	until(t, "one goroutine is left", func() bool { return runtime.NumGoroutine() <= goroutines+1 })
	if got := entries("fd"); got > descriptors+1 {
		t.Errorf("%d descriptors, %d before", got, descriptors)
	}
	// The runtime starts some threads of its own, and keeps them.
	if got := entries("task"); got > threads+8 {
		t.Errorf("%d threads, %d before", got, threads)
	}
	if n, parked := flocklock.Waiting(dir, name); n != 0 || !parked {
		t.Errorf("%d goroutines wait, in the kernel: %t", n, parked)
	}
	// The next wait is served by it.
	again := wait(t, dir)
	settleWaiting(t, dir, 1)
	p.finish()
	again.lock().Release()
	until(t, "none is left", func() bool {
		return runtime.NumGoroutine() <= goroutines && entries("fd") <= descriptors
	})
	mustSettle(t, dir)
}

func TestGrantThatNobodyWants(t *testing.T) {
	noLeak(t)
	dir := newDir(t)
	p := holder(t, dir)
	for range 3 {
		w := wait(t, dir)
		settleWaiting(t, dir, 1)
		w.cancel()
		if err := w.err(); !errors.Is(err, context.Canceled) {
			t.Errorf("err = %v", err)
		}
	}
	p.finish()
	// TryAcquire bears with the moment in which it is given back.
	next := spawn(t, "hold", []string{string(dir), scope, secret})
	next.expect("held")
	next.finish()
	mustSettle(t, dir)
}

func TestCancelManyAtOnce(t *testing.T) {
	noLeak(t)
	dir := newDir(t)
	holder(t, dir)
	var waits []*waiting
	for range 500 {
		waits = append(waits, wait(t, dir))
	}
	settleWaiting(t, dir, 500)
	for _, w := range waits {
		go w.cancel()
	}
	for _, w := range waits {
		if err := w.err(); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
	}
}

func TestContextEndedBefore(t *testing.T) {
	noLeak(t)
	dir := newDir(t)
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	past, cancel := context.WithDeadline(context.Background(), time.Now().Add(-time.Hour))
	defer cancel()
	for want, ctx := range map[error]context.Context{context.Canceled: ended, context.DeadlineExceeded: past} {
		if l, err := dir.Acquire(ctx, scope, secret); l != nil || !errors.Is(err, want) {
			t.Errorf("a free lock: %v, want %v", err, want)
		}
	}
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("made %q", got)
	}
	holder(t, dir)
	for want, ctx := range map[error]context.Context{context.Canceled: ended, context.DeadlineExceeded: past} {
		if l, err := dir.Acquire(ctx, scope, secret); l != nil || !errors.Is(err, want) {
			t.Errorf("a held lock: %v, want %v", err, want)
		}
	}
}

func TestWaitWithBadOptions(t *testing.T) {
	noLeak(t)
	dir := newDir(t)
	holder(t, dir)
	_, err := dir.Acquire(t.Context(), scope, secret, flocklock.WithProfile("Not A Profile"))
	if err == nil || errors.Is(err, flocklock.ErrHeld) {
		t.Errorf("told after the wait only: %v", err)
	}
}

// A waiter in another process is killed; the one behind it gets the lock.
func TestWaiterKilled(t *testing.T) {
	noLeak(t)
	dir := newDir(t)
	p := holder(t, dir)
	other := spawn(t, "wait", []string{string(dir), scope, secret})
	other.expect("waiting")
	w := wait(t, dir)
	settleWaiting(t, dir, 1)
	other.kill()
	if l, err := tryAcquire(t, dir); l != nil || !errors.Is(err, flocklock.ErrHeld) {
		t.Fatalf("the lock is the holder's: %v", err)
	}
	p.finish()
	w.lock().Release()
	mustSettle(t, dir)
}

// The holder is killed while somebody waits, in this process and in another.
func TestHolderKilledDuringWait(t *testing.T) {
	noLeak(t)
	dir := newDir(t)
	for range 5 {
		p := holder(t, dir)
		other := spawn(t, "wait", []string{string(dir), scope, secret})
		other.expect("waiting")
		w := wait(t, dir)
		settleWaiting(t, dir, 1)
		p.kill()
		select { // the kernel decides who is the first
		case got := <-w.got:
			if err := errors.Join(got.err, got.lock.Check(), got.lock.Release()); err != nil {
				t.Error(err)
			}
			other.expect("held")
			other.finish()
		case line := <-other.lines:
			if line != "held" {
				t.Fatalf("the other said %q", line)
			}
			other.finish()
			w.lock().Release()
		case <-time.After(hang):
			t.Fatal("nobody got the lock")
		}
	}
	mustSettle(t, dir)
}

func TestWaitIsTold(t *testing.T) {
	noLeak(t)
	dir := newDir(t)
	p := holder(t, dir)
	told := make(chan flocklock.Wait, 16)
	w := wait(t, dir, flocklock.OnWait(func(w flocklock.Wait) { told <- w }))
	settleWaiting(t, dir, 1)
	first := promptly(t, func() flocklock.Wait { return <-told })
	if first.Scope != scope || first.Holder.Standing != flocklock.StandingVerified || first.Holder.Record.PID != p.pid() ||
		first.For < 400*time.Millisecond {
		t.Errorf("told %+v", first)
	}
	if text := first.String(); !strings.HasPrefix(text, "waiting for "+scope+", held by ") || !strings.Contains(text, fmt.Sprint("PID ", p.pid())) {
		t.Errorf("told %q", text)
	}

	p.finish()
	w.lock().Release()

	// The holder changes during the wait.
	p = holder(t, dir)
	next := spawn(t, "wait", []string{string(dir), scope, secret})
	next.expect("waiting")
	w = wait(t, dir, flocklock.OnWait(func(w flocklock.Wait) { told <- w }))
	if again := promptly(t, func() flocklock.Wait { return <-told }); again.Holder.Record.PID != p.pid() {
		t.Errorf("told %+v", again)
	}
	p.finish()
	select {
	case line := <-next.lines:
		if line != "held" {
			t.Fatalf("the other said %q", line)
		}
	case got := <-w.got:
		got.lock.Release()
		t.Skip("this kernel does not serve its waiters in turn")
	case <-time.After(hang):
		t.Fatal("nobody got the lock")
	}
	select {
	case again := <-told:
		if again.Holder.Record.PID != next.pid() {
			t.Errorf("told %+v", again)
		}
	case <-w.got:
		t.Fatal("two have the lock")
	case <-time.After(hang):
		t.Error("not told that another holds the lock now")
	}
	next.finish()
	w.lock().Release()
	if len(told) != 0 {
		t.Errorf("told again, of %+v", <-told)
	}
}

func TestShortWaitIsSilent(t *testing.T) {
	dir := newDir(t)
	p := holder(t, dir)
	began := time.Now()
	silent := true
	w := wait(t, dir, flocklock.OnWait(func(flocklock.Wait) { silent = false }))
	settleWaiting(t, dir, 1)
	p.finish()
	w.lock().Release()
	if took := time.Since(began); took < 400*time.Millisecond && !silent {
		t.Errorf("told of a wait of %v", took)
	}
}

// A logger at info level is not told of a short wait, but of a long one.
func TestWaitedEvent(t *testing.T) {
	dir := newDir(t)
	waits := func(long bool) (line string, took time.Duration) {
		t.Helper()
		events := &eventLog{}
		p := holder(t, dir)
		began := time.Now()
		told := make(chan flocklock.Wait, 16)
		w := wait(t, dir, flocklock.WithLogger(slog.New(events)), flocklock.OnWait(func(w flocklock.Wait) { told <- w }))
		settleWaiting(t, dir, 1)
		if long {
			promptly(t, func() flocklock.Wait { return <-told })
		}
		p.finish()
		w.lock().Release()
		took = time.Since(began)
		for _, line = range events.all() {
			if strings.Contains(line, " event=waited ") {
				return line, took
			}
		}
		t.Fatalf("no event: %q", events.all())
		return "", 0
	}
	if line, took := waits(false); !strings.HasPrefix(line, "DEBUG ") && took < 400*time.Millisecond {
		t.Errorf("after %v: %q", took, line)
	}
	if line, took := waits(true); !strings.HasPrefix(line, "INFO ") {
		t.Errorf("after %v: %q", took, line)
	}
}

// More locks are awaited than goroutines may wait in the kernel.
func TestManyLocksAwaited(t *testing.T) {
	const locks = 1100
	noLeak(t)
	dir := newDir(t)
	p := spawn(t, "hold-many", []string{string(dir), fmt.Sprint(locks + 1)})
	p.expect("held")
	got := make(chan error, locks)
	for i := range locks {
		go func() {
			l, err := dir.Acquire(t.Context(), scope, fmt.Sprint(i))
			if err == nil {
				err = l.Release()
			}
			got <- err
		}()
	}
	until(t, "1000 wait in the kernel", func() bool { return flocklock.Parked() == 1000 })
	// Who waits for one more is told by whom it is held all the same.
	told := make(chan flocklock.Wait, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	more := make(chan error, 1)
	go func() {
		_, err := dir.Acquire(ctx, scope, fmt.Sprint(locks), flocklock.OnWait(func(w flocklock.Wait) {
			select {
			case told <- w:
			default:
			}
		}))
		more <- err
	}()
	if w := promptly(t, func() flocklock.Wait { return <-told }); w.Holder.Standing != flocklock.StandingVerified {
		t.Errorf("told %+v", w)
	}
	cancel()
	if err := promptly(t, func() error { return <-more }); !errors.Is(err, context.Canceled) || !errors.Is(err, flocklock.ErrHeld) {
		t.Error(err)
	}
	p.kill()
	for range locks {
		if err := promptly(t, func() error { return <-got }); err != nil {
			t.Fatal(err)
		}
	}
}

// An old gateway holds no kernel lock: its process is watched.
func TestWaitForOldGateway(t *testing.T) {
	noLeak(t)
	dir := newDir(t)
	p := gateway(t)
	putLegacy(t, dir, p.pid(), legacy{"start_time": startOf(t, p.pid())})
	told := make(chan flocklock.Wait, 16)
	w := wait(t, dir, flocklock.OnWait(func(w flocklock.Wait) { told <- w }))
	if first := promptly(t, func() flocklock.Wait { return <-told }); first.Holder.Standing != flocklock.StandingLegacy {
		t.Errorf("told %+v", first)
	}
	p.kill()
	w.lock().Release()
	mustSettle(t, dir)
}

func TestWaitForOldGatewaysRecord(t *testing.T) {
	noLeak(t)
	dir := newDir(t)
	p := gateway(t)
	putLegacy(t, dir, p.pid(), legacy{"start_time": startOf(t, p.pid())})
	told := make(chan flocklock.Wait, 16)
	w := wait(t, dir, flocklock.OnWait(func(w flocklock.Wait) { told <- w }))
	promptly(t, func() flocklock.Wait { return <-told })
	if err := os.Remove(recordPath(dir)); err != nil { // as it does when it releases
		t.Fatal(err)
	}
	w.lock().Release()

	putLegacy(t, dir, p.pid(), legacy{"start_time": startOf(t, p.pid())})
	w = wait(t, dir)
	until(t, "it waits", func() bool { n, _ := flocklock.Waiting(dir, name); return n == 1 })
	w.cancel()
	if err := w.err(); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}

	// One on another host, of which nothing is known but its record.
	putLegacy(t, dir, p.pid(), legacy{"host": "elsewhere"})
	w = wait(t, dir, flocklock.OnWait(func(w flocklock.Wait) { told <- w }))
	p.kill() // a process of that PID here is another
	if first := promptly(t, func() flocklock.Wait { return <-told }); first.Holder.Standing != flocklock.StandingElsewhere {
		t.Errorf("told %+v", first)
	}
	if err := os.Remove(recordPath(dir)); err != nil {
		t.Fatal(err)
	}
	w.lock().Release()
}

// Somebody removes the lock file, or its whole directory, while we wait: the
// holder holds a file that nobody else finds, and its Check says so.
func TestLockFileReplacedDuringWait(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not let anybody remove a lock file that is open")
	}
	for what, remove := range map[string]func(flocklock.Dir) error{
		"the lock file removed": func(dir flocklock.Dir) error { return os.Remove(lockPath(dir)) },
		"the lock file replaced": func(dir flocklock.Dir) error {
			if err := os.WriteFile(lockPath(dir)+"2", nil, 0o644); err != nil {
				return err
			}
			return os.Rename(lockPath(dir)+"2", lockPath(dir))
		},
		"the directory removed": func(dir flocklock.Dir) error { return os.RemoveAll(string(dir)) },
	} {
		t.Run(what, func(t *testing.T) {
			noLeak(t)
			dir := newDir(t)
			p := spawn(t, "check", []string{string(dir), scope, secret})
			p.expect("held")
			w := wait(t, dir)
			settleWaiting(t, dir, 1)
			if err := remove(dir); err != nil {
				t.Fatal(err)
			}
			l := w.lock()
			if err := l.Check(); err != nil {
				t.Error(err)
			}
			p.tell("check")
			p.expect("lost: ")
			// It goes away with its own file; ours stays.
			p.finish()
			if err := errors.Join(l.Check(), l.Release()); err != nil {
				t.Error(err)
			}
		})
	}
}

// What the caller's own function does to the goroutine does not leave a lock
// held by nobody.
func TestOnWaitPanics(t *testing.T) {
	noLeak(t)
	for what, misbehave := range map[string]func(){"panic": func() { panic("on purpose") }, "Goexit": runtime.Goexit} {
		dir := newDir(t)
		p := holder(t, dir)
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer func() { recover() }()
			dir.Acquire(context.Background(), scope, secret, flocklock.OnWait(func(flocklock.Wait) { misbehave() }))
		}()
		promptly(t, func() struct{} { return <-done })
		p.finish()
		l, err := tryAcquire(t, dir)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		l.Release()
	}
}

// A logger that does not return leaves nothing held.
func TestLoggerPanics(t *testing.T) {
	noLeak(t)
	misbehave := map[string]func(){"panic": func() { panic("on purpose") }, "Goexit": runtime.Goexit}
	for _, c := range []struct{ event, what string }{
		{flocklock.EventAcquired, "panic"}, {flocklock.EventAcquired, "Goexit"}, {flocklock.EventWaited, "panic"}, {flocklock.EventWaited, "Goexit"},
	} {
		dir := newDir(t)
		logger := flocklock.WithLogger(slog.New(misbehaving{slog.DiscardHandler, c.event, misbehave[c.what]}))
		var p *proc
		if c.event == flocklock.EventWaited {
			p = holder(t, dir)
		}
		done := make(chan struct{})
		go func() {
			defer close(done)
			defer func() { recover() }()
			if p == nil {
				dir.TryAcquire(scope, secret, logger)
			} else {
				dir.Acquire(t.Context(), scope, secret, logger)
			}
		}()
		if p != nil {
			settleWaiting(t, dir, 1)
			p.finish()
		}
		promptly(t, func() struct{} { return <-done })
		l, err := tryAcquire(t, dir)
		if err != nil {
			t.Fatalf("%v: %v", c, err)
		}
		l.Release()
		if got := files(t, dir); len(got) != 1 {
			t.Errorf("%v: left behind: %q", c, got)
		}
	}
	// In the goroutine that waits for all.
	dir := newDir(t)
	p := holder(t, dir)
	w := wait(t, dir, flocklock.WithLogger(slog.New(misbehaving{slog.DiscardHandler, flocklock.EventAcquired, runtime.Goexit})))
	settleWaiting(t, dir, 1)
	p.finish()
	if err := w.err(); err == nil {
		t.Error("no error")
	}
	l, err := tryAcquire(t, dir)
	if err != nil {
		t.Fatal(err)
	}
	l.Release()
}

// However often the lock file is replaced while its owners live on, who waits
// gets the lock of the last one.
func TestLockFileReplacedAgainAndAgain(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows does not let anybody replace a lock file that is open")
	}
	noLeak(t)
	dir := newDir(t)
	last := mustAcquire(t, dir)
	w := wait(t, dir)
	settleWaiting(t, dir, 1)
	for strays := 1; strays <= flocklock.MaxStrays+1; strays++ {
		next := newDir(t)
		last = mustAcquire(t, next)
		if err := os.Rename(lockPath(next), lockPath(dir)); err != nil {
			t.Fatal(err)
		}
		if strays > flocklock.MaxStrays {
			break
		}
		until(t, "it is seen that the file is another", func() bool { return flocklock.Strays(dir, name) == strays })
		if strays < flocklock.MaxStrays { // at the bound nobody waits in the kernel for this one
			settleWaiting(t, dir, 1) // else it would be the next file already that is waited for
		}
	}
	if err := last.Release(); err != nil {
		t.Error(err)
	}
	w.lock().Release()
	flocklock.ForgetHeld() // and then nobody waits for what they held
}

func TestJudgeEndsTheGoroutine(t *testing.T) {
	noLeak(t)
	dir := newDir(t)
	p := gateway(t)
	putLegacy(t, dir, p.pid(), nil)
	w := wait(t, dir, flocklock.WithLooksLikeGateway(func([]string) bool { runtime.Goexit(); return true }))
	if err := w.err(); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
	p.kill()
	wait(t, dir).lock().Release()
}

// The metadata is the caller's again once Acquire has returned.
func TestMetadataOfACancelledWait(t *testing.T) {
	noLeak(t)
	dir := newDir(t)
	p := holder(t, dir)
	inner := map[string]any{"a": 1}
	w := wait(t, dir, flocklock.WithMetadata(map[string]any{"inner": inner}))
	settleWaiting(t, dir, 1)
	w.cancel()
	w.err()
	go p.stdin.Close()
	for i := range 1000 { // the race detector sees a reader
		inner[fmt.Sprint(i)] = i
	}
	mustSettleSoon(t, dir)
}

func mustSettleSoon(t *testing.T, dir flocklock.Dir) {
	t.Helper()
	wait(t, dir).lock().Release()
	mustSettle(t, dir)
}

// 36: who is named held the lock now, and not when somebody last waited; nor is
// the lock file that of then.
func TestRow36LeftoverWaiter(t *testing.T) {
	noLeak(t)
	dir := newDir(t)
	first := holder(t, dir)
	next := spawn(t, "wait", []string{string(dir), scope, secret})
	next.expect("waiting")
	w := wait(t, dir)
	settleWaiting(t, dir, 1)
	w.cancel()
	w.err()
	first.finish()
	select {
	case <-next.lines:
	case <-time.After(10 * time.Second):
		t.Skip("this kernel does not serve its waiters in turn")
	}
	told := make(chan flocklock.Wait, 16)
	w = wait(t, dir, flocklock.OnWait(func(w flocklock.Wait) { told <- w }))
	if got := promptly(t, func() flocklock.Wait { return <-told }); got.Holder.Record == nil || got.Holder.Record.PID != next.pid() {
		t.Errorf("told of %v, PID %d has it", got.Holder, next.pid())
	}
	w.cancel()
	if err := w.err(); !errors.Is(err, flocklock.ErrHeld) || !strings.Contains(err.Error(), fmt.Sprint("PID ", next.pid())) {
		t.Errorf("err = %v", err)
	}
	if runtime.GOOS == "windows" {
		return // where nobody can remove the file
	}
	if err := os.Remove(lockPath(dir)); err != nil {
		t.Fatal(err)
	}
	wait(t, dir).lock().Release()
}

// The options of one wait do not judge for another.
func TestOptionsOfAnotherWait(t *testing.T) {
	noLeak(t)
	dir := newDir(t)
	p := stranger(t)
	putLegacy(t, dir, p.pid(), nil)
	first := wait(t, dir, flocklock.WithLooksLikeGateway(func([]string) bool { return true }))
	until(t, "it waits", func() bool { n, _ := flocklock.Waiting(dir, name); return n == 1 })
	second := wait(t, dir)
	until(t, "both wait", func() bool { n, _ := flocklock.Waiting(dir, name); return n == 2 })
	first.cancel()
	first.err()
	second.lock().Release()
}

// An identity in the scope's place is not told.
func TestScopeIsNotRepeated(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := newDir(t).Acquire(ended, secret, scope); err == nil || strings.Contains(err.Error(), secret) {
		t.Errorf("err = %v", err)
	}
}
