package flocklock_test

// Who really holds a lock on Linux: heirs, flock(1), strangers, threads, other
// users and namespaces.

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/flocklock/flocklock"
	"golang.org/x/sys/unix"
)

func init() {
	// open has a file open and no lock.
	workers["open"] = func(args []string) {
		file, err := os.Open(args[0])
		fmt.Println("open", err)
		waitForParent()
		file.Close()
	}

	// flock locks a file as any program may.
	workers["flock"] = func(args []string) { flockAnd(args[0], unix.LOCK_EX) }

	// share locks a file shared.
	workers["share"] = func(args []string) { flockAnd(args[0], unix.LOCK_SH) }

	// thread locks a file in a thread that has descriptors of its own.
	workers["thread"] = func(args []string) {
		done := make(chan struct{})
		var other func()
		other = func() {
			runtime.LockOSThread() // for good: the thread ends with the goroutine
			if unix.Gettid() == os.Getpid() {
				go other()
				<-done // keeps the first thread
				return
			}
			defer close(done)
			if err := unix.Unshare(unix.CLONE_FILES); err != nil {
				fmt.Println("no thread of its own:", err)
				return
			}
			flockAnd(args[0], unix.LOCK_EX)
		}
		go other()
		<-done
	}

	// holders tells how many hold a lock.
	workers["holders"] = func(args []string) {
		found, err := flocklock.Dir(args[0]).Holders(name)
		fmt.Println(len(found), errors.Is(err, fs.ErrPermission), errors.Is(err, unix.EMFILE), err)
	}
}

func flockAnd(path string, how int) {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Flock(fd, how|unix.LOCK_NB)
	}
	fmt.Println("locked", err)
	waitForParent()
}

// locked is a worker that has locked a directory's lock file its own way.
func locked(t *testing.T, mode string, dir flocklock.Dir) *proc {
	t.Helper()
	p := spawn(t, mode, []string{lockPath(dir)})
	p.expect("locked <nil>")
	return p
}

// The child that was given the open file holds on when its parent has died, and
// beside it while it lives.
func TestHoldersInherited(t *testing.T) {
	dir := newDir(t)
	owner := spawn(t, "inherit", []string{string(dir), scope, secret, "give"})
	owner.expect("held")
	owner.expect("ready")
	child := childOf(t, owner.pid())
	mustHold(t, dir, owner.pid(), child)
	if err := owner.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := owner.cmd.Process.Wait(); err != nil {
		t.Fatal(err)
	}
	if found := mustHold(t, dir, child); len(found[0].Argv) != 1 {
		t.Errorf("argv with a flag: %q", found[0].Argv)
	}
	mustRefuse(t, dir, flocklock.StandingUnknown)
}

// childOf is the one child of a process.
func childOf(t *testing.T, pid int) (child int) {
	t.Helper()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, task := range tasks {
		more, _ := os.ReadFile(task)
		children = append(children, more...)
	}
	if _, serr := fmt.Sscan(string(children), &child); serr != nil {
		t.Skip("this machine does not list children: ", err, serr)
	}
	return child
}

// flock(1), which gives its command the lock too.
func TestHoldersFlock1(t *testing.T) {
	flock, err := exec.LookPath("flock")
	if err != nil {
		t.Skip("no flock(1): ", err)
	}
	dir := newDir(t)
	mustSettle(t, dir)
	p := spawn(t, "idle", nil, func(cmd *exec.Cmd) {
		cmd.Path, cmd.Args = flock, []string{"flock", lockPath(dir), executable()}
	})
	p.expect("ready")
	for _, h := range mustHold(t, dir, p.pid(), childOf(t, p.pid())) {
		if h.PID == p.pid() && (len(h.Argv) != 3 || h.Argv[0] != "flock") {
			t.Errorf("argv %q", h.Argv)
		}
	}
}

// A stranger that locks is named; who has the file open, holds it shared, or
// locks another file of that name, is not.
func TestHoldersStranger(t *testing.T) {
	dir, other := newDir(t), newDir(t)
	mustSettle(t, dir)
	mustSettle(t, other)
	opener := spawn(t, "open", []string{lockPath(dir)})
	opener.expect("open <nil>")
	locked(t, "flock", other)
	mustHold(t, dir)
	p := locked(t, "flock", dir)
	mustHold(t, dir, p.pid())
	// What it locks has another name by now.
	if err := os.Rename(lockPath(dir), filepath.Join(string(dir), "elsewhere")); err != nil {
		t.Fatal(err)
	}
	mustHold(t, dir)
	if err := os.Link(filepath.Join(string(dir), "elsewhere"), lockPath(dir)); err != nil {
		t.Fatal(err)
	}
	mustHold(t, dir, p.pid())
	p.kill()
	locked(t, "share", dir)
	mustHold(t, dir)
}

// A thread's own descriptor.
func TestHoldersThread(t *testing.T) {
	dir := newDir(t)
	mustSettle(t, dir)
	p := locked(t, "thread", dir)
	mustHold(t, dir, p.pid())
}

// A holder with many descriptors, among processes that come and go.
func TestHoldersBusy(t *testing.T) {
	dir := newDir(t)
	holder := spawn(t, "hold", []string{string(dir), scope, secret})
	holder.expect("held")
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() { // ends with the test
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				exec.Command("true").Run()
			}
		}
	}()
	defer func() { close(stop); <-stopped }()
	for range 10 {
		mustHold(t, dir, holder.pid())
	}
}

// Who is not root does not see root's process, and is told so.
func TestHoldersOtherUser(t *testing.T) {
	dir := shared(t)
	if os.Getenv(isolatedEnv) == "" {
		holder := spawn(t, "hold", []string{string(dir), scope, secret})
		holder.expect("held")
		if err := os.Chmod(lockPath(dir), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if !isolated(t, nobody(t)) {
		return
	}
	found, err := dir.Holders(name)
	if found != nil || !errors.Is(err, fs.ErrPermission) || mustPathError(t, err).Path != lockPath(dir) {
		t.Errorf("%v, %v", found, err)
	}
	own := newDir(t)
	p := spawn(t, "hold", []string{string(own), scope, secret}, func(cmd *exec.Cmd) { cmd.Dir = "/" })
	p.expect("held")
	found, err = own.Holders(name)
	if len(found) != 1 || found[0].PID != p.pid() || !errors.Is(err, fs.ErrPermission) {
		t.Errorf("our own: %v, %v", found, err)
	}
}

// A /proc that hides other users' processes; see hidepid in proc(5).
func TestHoldersHidden(t *testing.T) {
	dir := shared(t)
	if os.Getenv(isolatedEnv) == "" {
		holder := spawn(t, "hold", []string{string(dir), scope, secret})
		holder.expect("held")
	}
	if !isolated(t, namespaces(0)) {
		return
	}
	mount(t, "proc", "/proc", 0, "hidepid=2")
	if found, err := dir.Holders(name); len(found) != 1 {
		t.Fatalf("root: %v, %v", found, err)
	}
	p := spawn(t, "holders", []string{string(dir)}, func(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{} }, nobody(t))
	if got := p.line(); !strings.HasPrefix(got, "0 true ") {
		t.Error(got)
	}
}

// From outside a PID namespace its processes are seen, by our PIDs.
func TestHoldersInPIDNamespace(t *testing.T) {
	dir := newDir(t)
	holder := spawn(t, "hold", []string{string(dir), scope, secret}, func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
		namespaces(unix.CLONE_NEWPID)(cmd)
	})
	if line := holder.line(); line != "held" {
		t.Skip("this machine does not let us isolate a process: ", line)
	}
	mustHold(t, dir, holder.pid())
}

// From inside, the others are not seen, and nobody is guessed; where /proc is
// still the outer namespace's, they are seen without a PID of ours.
func TestHoldersOutsidePIDNamespace(t *testing.T) {
	const dirEnv = "FLOCKLOCK_TEST_DIR"
	dir := flocklock.Dir(os.Getenv(dirEnv))
	if dir == "" {
		dir = newDir(t)
		holder := spawn(t, "hold", []string{string(dir), scope, secret})
		holder.expect("held")
		t.Setenv(dirEnv, string(dir))
	}
	if !isolated(t, namespaces(unix.CLONE_NEWPID)) {
		return
	}
	found, err := dir.Holders(name)
	switch mapped := strings.Fields(readFile(t, "/proc/self/uid_map")); {
	case len(mapped) == 3 && mapped[2] == "1": // root of a user namespace may not look at those outside
		if found != nil || !errors.Is(err, fs.ErrPermission) {
			t.Errorf("by the outer /proc, from a user namespace: %v, %v", found, err)
		}
	case len(found) != 1 || found[0].PID != 0 || len(found[0].Argv) != 3:
		t.Errorf("by the outer /proc: %v, %v", found, err)
	}
	ours := newDir(t)
	holder := spawn(t, "hold", []string{string(ours), scope, secret})
	holder.expect("held")
	mustHold(t, ours, holder.pid())

	mount(t, "proc", "/proc", 0, "")
	mustHold(t, ours, holder.pid())
	if _, err := ours.Holders(name); err != nil {
		t.Errorf("every process can be looked at: %v", err)
	}
	found, err = dir.Holders(name)
	if found != nil || err == nil || errors.Is(err, fs.ErrPermission) || errors.Is(err, errors.ErrUnsupported) || mustPathError(t, err).Path != lockPath(dir) {
		t.Errorf("by our own /proc: %v, %v", found, err)
	}
}

// Without /proc nothing can be said.
func TestHoldersWithoutProc(t *testing.T) {
	if !isolated(t, namespaces(0)) {
		return
	}
	dir := newDir(t)
	mustAcquire(t, dir)
	mount(t, "tmpfs", "/proc", 0, "")
	if found, err := dir.Holders(name); found != nil || !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("%v, %v", found, err)
	}
}

// A process that could not be looked at, for want of a descriptor, is missed with
// an error that says so.
func TestHoldersWithoutDescriptors(t *testing.T) {
	dir := newDir(t)
	owner := spawn(t, "inherit", []string{string(dir), scope, secret, "give"})
	owner.expect("held")
	owner.expect("ready")
	child := childOf(t, owner.pid())
	asks := spawn(t, "holders", []string{string(dir)}, injected(t, "openat:error=EMFILE"), onlyOn(fmt.Sprint("/proc/", child)))
	var found int
	var hidden, without bool
	line := asks.line()
	if _, err := fmt.Sscan(line, &found, &hidden, &without); err != nil || found != 1 || !without {
		t.Error(line)
	}
}

var fdinfos = []struct {
	text string
	has  bool
}{
	{"", false},
	{"pos:\t0\nflags:\t0100001\nmnt_id:\t27\nino:\t9977875\nlock:\t1: FLOCK  ADVISORY  WRITE 4030 fe:00:9977875 0 EOF\n", true},
	{"pos:\t0\nflags:\t02100002\nlock:\t1: POSIX  ADVISORY  WRITE 4030 fe:00:9977875 0 EOF\n", false},
	{"lock:\t1: FLOCK  ADVISORY  READ 4030 fe:00:9977875 0 EOF\n", false},
	{"lock:\t1: POSIX  ADVISORY  READ 4030 fe:00:9977875 0 EOF\nlock:\t2: FLOCK  ADVISORY  WRITE 0 fe:00:9977875 0 EOF\n", true},
	{"lock:\t1: -> FLOCK  ADVISORY  WRITE 4030 fe:00:9977875 0 EOF\n", false},
	{"lock:\t1: FLOCK  ADVISORY  WRITE 4030 fe:00:9977875 0 EO", false},
	{"lock:\n", false},
	{"lock:\tFLOCK WRITE\n", false},
}

func TestHasFlock(t *testing.T) {
	for _, f := range fdinfos {
		if got := flocklock.HasFlock([]byte(f.text)); got != f.has {
			t.Errorf("%v for %q", got, f.text)
		}
	}
}
