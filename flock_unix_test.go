//go:build unix

package flocklock_test

import (
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/flocklock/flocklock"
	"golang.org/x/sys/unix"
)

func init() {
	oddities["FIFO"] = func(t *testing.T, path string) {
		if err := unix.Mkfifo(path, 0o644); err != nil {
			t.Skip("this machine makes no FIFO: ", err)
		}
	}
	oddities["socket"] = func(t *testing.T, path string) {
		short := filepath.Join(shortDir(t), "s") // a socket's path may have 104 bytes
		l, err := net.Listen("unix", short)
		if err != nil {
			t.Skip("this machine makes no socket: ", err)
		}
		t.Cleanup(func() { l.Close() })
		if err := os.Rename(short, path); err != nil {
			t.Skip("this machine does not rename a socket: ", err)
		}
	}
}

func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// tryAcquireWithDescriptors tries while the process may open only so many more
// files.
func tryAcquireWithDescriptors(t *testing.T, dir flocklock.Dir, free int) (*flocklock.Lock, error) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	var opened []int
	defer func() {
		for _, fd := range opened {
			unix.Close(fd)
		}
	}()
	limited := old
	limited.Cur = 256
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &limited); err != nil {
		t.Fatal(err)
	}
	defer unix.Setrlimit(unix.RLIMIT_NOFILE, &old)
	for {
		fd, err := unix.Dup(0)
		if err != nil {
			break
		}
		unix.CloseOnExec(fd)
		opened = append(opened, fd)
	}
	for range free {
		unix.Close(opened[len(opened)-1])
		opened = opened[:len(opened)-1]
	}
	return dir.TryAcquire(scope, secret)
}

// 23: a stopped owner wakes up one day, so it owns.
func TestRow23StoppedOwner(t *testing.T) {
	dir := newDir(t)
	owner := gateway(t)
	start := startOf(t, owner.pid())
	putLegacy(t, dir, owner.pid(), legacy{"start_time": start})
	stop(t, owner)
	if got := mustRefuse(t, dir, flocklock.StandingLegacy).Error(); !contains(got, "it is stopped") {
		t.Errorf("message: %s", got)
	}

	dir = newDir(t)
	holder := spawn(t, "hold", []string{string(dir), scope, secret})
	holder.expect("held")
	stop(t, holder)
	if got := mustRefuse(t, dir, flocklock.StandingStopped).Error(); !contains(got, "stopped", "kill -CONT") {
		t.Errorf("message: %s", got)
	}
	if err := holder.cmd.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if got := holder.finish(); got != "released <nil>" {
		t.Errorf("the holder woke up and said %q", got)
	}
}

func stop(t *testing.T, p *proc) {
	t.Helper()
	if err := p.cmd.Process.Signal(unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var status unix.WaitStatus
	for {
		if _, err := unix.Wait4(p.pid(), &status, unix.WUNTRACED, nil); err == nil && status.Stopped() {
			return
		} else if err != unix.EINTR && err != nil {
			t.Fatal(err)
		}
	}
}

// 05: a zombie owns nothing.
func TestRow05Zombie(t *testing.T) {
	dir := newDir(t)
	owner := gateway(t)
	start := startOf(t, owner.pid())
	for _, recorded := range []any{start, nil} {
		putLegacy(t, dir, owner.pid(), legacy{"start_time": recorded})
		if recorded == any(start) {
			mustRefuse(t, dir, flocklock.StandingLegacy)
			owner.cmd.Process.Kill() // and nobody waits for it
			waitUntil(t, func() bool {
				status, err := dir.Inspect(scope, secret)
				return err != nil || status.State == flocklock.Free
			})
		}
		status, err := dir.Inspect(scope, secret)
		if err != nil || status.State != flocklock.Free || !contains(status.Left, "has ended") {
			t.Errorf("%+v, %v", status, err)
		}
		mustSettle(t, dir)
	}
	if err := unix.Kill(owner.pid(), 0); err != nil {
		t.Fatalf("the zombie is gone, so the test has seen none: %v", err)
	}
}

// monotonic is the system's monotonic clock, the same for all processes.
func monotonic() int64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(clockMonotonic, &ts); err != nil {
		panic(err)
	}
	return ts.Nano()
}

// stopProcess and continueProcess do what their names say, and do not wait until
// it has come about.
func stopProcess(p *os.Process) bool { return p.Signal(unix.SIGSTOP) == nil }
func continueProcess(p *os.Process)  { p.Signal(unix.SIGCONT) }

// lockedInode is the inode of the file through which a lock is held, whatever its
// path names by now; 0 where that cannot be known.
func lockedInode(l *flocklock.Lock) uint64 {
	file, err := l.File()
	if err != nil {
		return 0
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return 0
	}
	return uint64(info.Sys().(*syscall.Stat_t).Ino)
}

// waitUntil waits for a condition that will come.
func waitUntil(t *testing.T, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(hang); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not come")
		}
	}
}

// A holder that is stopped holds; the wait says so, and goes on.
func TestHolderStoppedDuringWait(t *testing.T) {
	noLeak(t)
	dir := newDir(t)
	p := holder(t, dir)
	told := make(chan flocklock.Wait, 16)
	w := wait(t, dir, flocklock.OnWait(func(w flocklock.Wait) { told <- w }))
	settleWaiting(t, dir, 1)
	stop(t, p)
	for promptly(t, func() flocklock.Wait { return <-told }).Holder.Standing != flocklock.StandingStopped {
	}
	if err := p.cmd.Process.Signal(unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if again := promptly(t, func() flocklock.Wait { return <-told }); again.Holder.Standing != flocklock.StandingVerified {
		t.Errorf("told %+v", again)
	}
	p.finish()
	w.lock().Release()
	mustSettle(t, dir)
}

// 09: the holder that is asked to end may take its time, and needs not be
// killed; one that is stopped hears too.
func TestRow09DrainingHolder(t *testing.T) {
	for stopped, grace := range map[bool]time.Duration{false: hang, true: 0} { // 0 stands for ten seconds
		dir := newDir(t)
		p := spawn(t, "polite", []string{string(dir), scope, secret})
		p.expect("held")
		if stopped {
			stop(t, p)
		}
		mustTakeOver(t, dir, flocklock.TakeOverOptions{Grace: grace})
		if got := p.finish(); got != "draining\nreleased <nil>" {
			t.Errorf("the holder said %q", got)
		}
	}
}
