package flocklock_test

// What only Linux can be made to do: PIDs that really come back, other PID and
// time namespaces, other users, full and read-only disks. Numbers are rows of
// the catalogue of failures of the old lock.

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flocklock/flocklock"
	"golang.org/x/sys/unix"
)

func init() {
	oddities["device"] = func(t *testing.T, path string) {
		if err := unix.Mknod(path, unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))); err != nil {
			t.Skip("this machine does not let us make a device: ", err)
		}
	}
}

const isolatedEnv = "FLOCKLOCK_TEST_ISOLATED"

// isolated runs the test that calls it once more, in a process of its own that
// change makes special, and reports false in the first one, which is done then.
func isolated(t *testing.T, change func(*exec.Cmd)) bool {
	t.Helper()
	if os.Getenv(isolatedEnv) == t.Name() {
		return true
	}
	limit := 2 * time.Minute
	if end, ok := t.Deadline(); ok {
		limit = time.Until(end)
	}
	cmd := exec.Command(executable(), "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout="+limit.String())
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0", isolatedEnv+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{}
	defer covered(t, cmd)()
	change(cmd)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Start()
	if err != nil {
		t.Skip("this machine does not let us isolate a process: ", err)
	}
	err = cmd.Wait()
	if strings.Contains(out.String(), "--- SKIP") {
		t.Skip(out.String())
	}
	if err != nil || !strings.Contains(out.String(), "--- PASS") {
		t.Fatalf("%v\n%s", err, out.String())
	}
	return false
}

// covered has an isolated process tell what it covered, where that is measured.
// The function that it returns adds it to the rest, which another user may not.
func covered(t *testing.T, cmd *exec.Cmd) (collect func()) {
	all := os.Getenv("GOCOVERDIR")
	if testing.CoverMode() == "" || all == "" {
		return func() {}
	}
	own := t.TempDir()
	if err := os.Chmod(own, 0o777); err != nil {
		t.Fatal(err)
	}
	cmd.Args = append(cmd.Args, "-test.gocoverdir="+own)
	cmd.Env = append(cmd.Env, "GOCOVERDIR="+own)
	return func() {
		for _, file := range files(t, flocklock.Dir(own)) {
			data := readFile(t, filepath.Join(own, file))
			if err := os.WriteFile(filepath.Join(all, file), []byte(data), 0o644); err != nil {
				t.Error(err)
			}
		}
	}
}

// namespaces makes a process that has namespaces of its own. Who is not root
// becomes root of a user namespace.
func namespaces(flags uintptr) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		cmd.SysProcAttr.Cloneflags = flags | unix.CLONE_NEWNS
		if os.Geteuid() != 0 {
			cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWUSER
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
		}
	}
}

// mount mounts something for this namespace only.
func mount(t *testing.T, fstype, target string, flags uintptr, data string) {
	t.Helper()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Skip("this machine does not let us mount: ", err)
	}
	if err := unix.Mount(fstype, target, fstype, flags, data); err != nil {
		t.Skip("this machine does not let us mount "+fstype+": ", err)
	}
}

// reuse starts a worker that gets the PID of one that has ended.
func reuse(t *testing.T, pid int, start func(*testing.T) *proc) *proc {
	t.Helper()
	for range 20 {
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", fmt.Append(nil, pid-1), 0); err != nil {
			t.Skip("this machine does not let us choose a PID: ", err)
		}
		if p := start(t); p.pid() == pid {
			return p
		}
	}
	t.Skip("this machine did not give the PID again")
	return nil
}

// 01, 03, 46: the owner is killed and its PID really comes back, as a stranger
// or as another gateway, with what the old gateways of every time recorded.
func TestRow01RealPIDReuse(t *testing.T) {
	if !isolated(t, namespaces(unix.CLONE_NEWPID)) {
		return
	}
	mount(t, "proc", "/proc", 0, "")
	for what, start := range map[string]func(*testing.T) *proc{"stranger": stranger, "gateway": gateway} {
		dir := newDir(t)
		owner := newOld(t, "OLD")
		owner.tell("go 0 " + string(dir))
		owner.expect("held")
		owns(t, dir, "runs a gateway's command line")
		recorded := startOf(t, owner.pid())
		owner.kill()
		// Ticks are 10 ms: the PID may not come back within the same one.
		waitUntil(t, func() bool { p := stranger(t); defer p.kill(); return startOf(t, p.pid()) > recorded+1 })
		now := reuse(t, owner.pid(), start)

		if what == "stranger" {
			// The new process is younger than the record by less than clocks
			// are trusted, so its command line decides.
			leaves(t, dir, "is no gateway")
		}
		putLegacy(t, dir, owner.pid(), legacy{"start_time": recorded})
		leaves(t, dir, "another process by now")
		putLegacy(t, dir, owner.pid(), legacy{"start_time": nil, "updated_at": isoNow(earlier)})
		leaves(t, dir, "after the record was written")

		holder := spawn(t, "hold", []string{string(dir), scope, secret})
		holder.expect("held")
		holder.kill()
		now.kill()
		reuse(t, holder.pid(), gateway)
		mustSettle(t, dir)
	}
}

// 01 without /proc: nothing but the PID can be seen. The record's own words
// decide, and fail closed.
func TestRow01WithoutProc(t *testing.T) {
	if !isolated(t, namespaces(0)) {
		return
	}
	owner, other := gateway(t), spawn(t, "idle", nil)
	dead := stranger(t)
	dead.kill()
	mount(t, "tmpfs", "/proc", 0, "")
	dir := newDir(t)
	putLegacy(t, dir, owner.pid(), nil)
	owns(t, dir, "cannot be read")
	putLegacy(t, dir, other.pid(), legacy{"argv": []string{"editor"}})
	leaves(t, dir, "neither")
	putLegacy(t, dir, dead.pid(), nil)
	leaves(t, dir, "no process has PID")
	holder := spawn(t, "hold", []string{string(dir), scope, secret})
	holder.expect("held")
	mustRefuse(t, dir, flocklock.StandingUnknown)
	if got := readFile(t, recordPath(dir)); !strings.Contains(got, `"start_time":null`) {
		t.Errorf("a start time that nobody knows: %s", got)
	}
	holder.kill()
	mustSettle(t, dir)
}

// 19, 20: a holder, or an old gateway, in another PID namespace. Both this
// process and the other have PID 1 where they are.
func TestRow19Row20OtherPIDNamespace(t *testing.T) {
	const dirEnv = "FLOCKLOCK_TEST_DIR"
	dir := flocklock.Dir(os.Getenv(dirEnv))
	if dir == "" {
		dir = newDir(t)
		putLegacy(t, dir, 1, legacy{"pidns": "1", "start_time": 5})
		mustRefuseElsewhere(t, dir)
		holder := spawn(t, "hold", []string{string(dir), "irc", secret}, func(cmd *exec.Cmd) {
			cmd.SysProcAttr = &syscall.SysProcAttr{}
			namespaces(unix.CLONE_NEWPID)(cmd)
		})
		if line := holder.line(); line != "held" {
			t.Skip("this machine does not let us isolate a process: ", line)
		}
		t.Setenv(dirEnv, string(dir))
	}
	if !isolated(t, namespaces(unix.CLONE_NEWPID)) {
		return
	}
	if os.Getpid() != 1 {
		t.Fatal("not the first process of the namespace")
	}
	mount(t, "proc", "/proc", 0, "")
	mustRefuseElsewhere(t, dir)
	_, err := dir.TryAcquire("irc", secret)
	var refused *flocklock.HeldError
	if !errors.As(err, &refused) || refused.Holder.Standing != flocklock.StandingElsewhere || refused.Holder.Record.PID != 1 {
		t.Errorf("another process with our PID: %v", err)
	}
}

// 19 where /proc is that of another namespace: its numbers are not ours.
func TestRow19StrangeProc(t *testing.T) {
	if !isolated(t, namespaces(unix.CLONE_NEWPID)) {
		return
	}
	dir := newDir(t)
	putLegacy(t, dir, 1, legacy{"updated_at": isoNow(earlier)}) // PID 1 of /proc began long ago
	owns(t, dir, "cannot be read")
}

func mustRefuseElsewhere(t *testing.T, dir flocklock.Dir) {
	t.Helper()
	refused := mustRefuse(t, dir, flocklock.StandingElsewhere)
	if got := refused.Error(); !contains(got, "not checked", "other PID namespace") {
		t.Errorf("message: %s", got)
	}
}

// 18: the owner's time namespace counts from another boot.
func TestRow18TimeNamespace(t *testing.T) {
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip("no unshare(1): ", err)
	}
	dir := newDir(t)
	owner := spawn(t, "idle", nil, func(cmd *exec.Cmd) {
		cmd.Path, cmd.Args = unshare, append([]string{"unshare", "--time", "--boottime", "1000000", "--fork", "--kill-child"}, executable(), "hermes", "gateway")
	})
	if owner.line() != "ready" {
		t.Skip("this machine does not let us make a time namespace")
	}
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", owner.pid(), owner.pid()))
	var pid int
	if _, serr := fmt.Sscan(string(children), &pid); serr != nil {
		t.Skip("this machine does not list children: ", err, serr)
	}
	seen := startOf(t, pid)
	putLegacy(t, dir, pid, legacy{"start_time": seen + 1000000*100}) // as the owner itself sees it
	owns(t, dir, "since the time that the record says")
	putLegacy(t, dir, pid, legacy{"start_time": seen})
	owns(t, dir, "since the time that the record says")
	putLegacy(t, dir, pid, legacy{"start_time": seen + 1000000*100 - 3})
	leaves(t, dir, "another process by now")

	// And ours counts from another boot than the owner's.
	if isolatedIn := os.Getenv(isolatedEnv); isolatedIn != "" {
		return
	}
	var up unix.Sysinfo_t
	if err := unix.Sysinfo(&up); err != nil {
		t.Fatal(err)
	}
	young := fmt.Sprint(2 - up.Uptime) // seconds: a system that was started just now
	near := gateway(t)
	written := isoNow(-time.Duration(up.Uptime) * time.Second / 2) // long before the young system's start
	putLegacy(t, dir, near.pid(), legacy{"start_time": startOf(t, near.pid()), "updated_at": written})
	far := spawn(t, "hold", nil, func(cmd *exec.Cmd) {
		cmd.Path = unshare
		cmd.Args = append([]string{"unshare", "--time", "--boottime", young, "--fork", "--kill-child"}, executable(), string(dir), scope, secret)
	})
	if got := far.line(); !strings.HasPrefix(got, "refused legacy") {
		t.Errorf("from another time namespace: %s", got)
	}
	putLegacy(t, dir, near.pid(), nil)
	again := spawn(t, "hold", nil, func(cmd *exec.Cmd) {
		cmd.Path = unshare
		cmd.Args = append([]string{"unshare", "--time", "--boottime", young, "--fork", "--kill-child"}, executable(), string(dir), scope, secret)
	})
	if got := again.line(); !strings.HasPrefix(got, "refused legacy") {
		t.Errorf("from another time namespace, without a start time: %s", got)
	}
}

// nobody makes a process of another user that cannot do what root can.
func nobody(t *testing.T) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		if os.Geteuid() != 0 {
			t.Skip("only root can become another user")
		}
		exe := filepath.Join(t.TempDir(), "test")
		if err := exec.Command("cp", executable(), exe).Run(); err != nil {
			t.Skip("no copy of the test for another user: ", err)
		}
		for at := filepath.Dir(exe); at != os.TempDir() && at != "/"; at = filepath.Dir(at) {
			os.Chmod(at, 0o755)
		}
		os.Chmod(exe, 0o755)
		cmd.Path = exe
		cmd.Dir = "/"
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
	}
}

const sharedEnv = "FLOCKLOCK_TEST_SHARED"

// shared is a directory of the other user's, the same in both processes.
func shared(t *testing.T) flocklock.Dir {
	t.Helper()
	if dir := os.Getenv(sharedEnv); dir != "" {
		return flocklock.Dir(dir)
	}
	dir, err := os.MkdirTemp("", "flocklock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chown(dir, 65534, 65534); err != nil {
		t.Skip("only root gives a directory away: ", err)
	}
	t.Setenv(sharedEnv, dir)
	return flocklock.Dir(dir)
}

// 21: the owner is another user's process, which we may not signal.
func TestRow21OtherUser(t *testing.T) {
	dir := shared(t)
	if os.Getenv(isolatedEnv) == "" {
		owner := gateway(t)
		putLegacy(t, dir, owner.pid(), legacy{"start_time": startOf(t, owner.pid())})
	}
	if !isolated(t, nobody(t)) {
		return
	}
	refused := mustRefuse(t, dir, flocklock.StandingLegacy)
	if err := unix.Kill(refused.Holder.Record.PID, 0); !errors.Is(err, unix.EPERM) {
		t.Fatalf("the owner may be signalled: %v", err)
	}
}

// 22: a record and a lock file that we may not read.
func TestRow22Unreadable(t *testing.T) {
	dir := shared(t)
	if os.Getenv(isolatedEnv) == "" {
		put(t, dir, `{"pid":1}`)
		if err := os.Chmod(recordPath(dir), 0); err != nil {
			t.Fatal(err)
		}
	}
	if !isolated(t, nobody(t)) {
		return
	}
	l, err := tryAcquire(t, dir)
	if l != nil || !errors.Is(err, fs.ErrPermission) || errors.Is(err, flocklock.ErrHeld) {
		t.Fatalf("%v, %v", l, err)
	}
	if pathErr := mustPathError(t, err); pathErr.Path != recordPath(dir) {
		t.Error(pathErr)
	}
	if _, err := dir.Inspect(scope, secret); !errors.Is(err, fs.ErrPermission) {
		t.Errorf("inspect: %v", err)
	}
	report, err := dir.Migrate(flocklock.MigrateOptions{})
	if !errors.Is(err, fs.ErrPermission) || len(report) != 1 || report[0].Action != flocklock.Kept {
		t.Errorf("migrate: %+v, %v", report, err)
	}
	if err := os.Remove(recordPath(dir)); err != nil {
		t.Fatal(err)
	}
	mustSettle(t, dir)
	if err := os.Chmod(lockPath(dir), 0); err != nil {
		t.Fatal(err)
	}
	if l, err := tryAcquire(t, dir); l != nil || mustPathError(t, err).Path != lockPath(dir) {
		t.Errorf("%v, %v", l, err)
	}
}

// 41: what root left in a user's directory does not block the user, and a
// directory that he may not write to does not hang him.
func TestRow41LeftoversOfRoot(t *testing.T) {
	dir := shared(t)
	if os.Getenv(isolatedEnv) == "" {
		umask := unix.Umask(0o077)
		holder := spawn(t, "hold", []string{string(dir), scope, secret})
		unix.Umask(umask)
		holder.expect("held")
		holder.kill()
		if err := os.WriteFile(filepath.Join(string(dir), "."+name+".tmp"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if !isolated(t, nobody(t)) {
		return
	}
	mustSettle(t, dir)
	for _, mode := range []fs.FileMode{0o500, 0o700} {
		if err := os.Chmod(string(dir), mode); err != nil {
			t.Fatal(err)
		}
		l, err := tryAcquire(t, dir)
		if err != nil {
			t.Fatal(err)
		}
		if mode == 0o500 {
			if !errors.Is(l.RecordErr(), fs.ErrPermission) {
				t.Errorf("record: %v", l.RecordErr())
			}
			if err := l.Check(); err != nil {
				t.Error(err)
			}
		}
		if err := l.Release(); err != nil {
			t.Error(err)
		}
		if mode == 0o500 {
			_, err := dir.TryAcquire(scope, "another")
			if !errors.Is(err, fs.ErrPermission) {
				t.Errorf("no lock file can be made: %v", err)
			}
		}
	}
}

// 41: a sticky directory of everybody's, where fs.protected_regular refuses to
// open another's file with O_CREAT.
func TestRow41StickyDirectory(t *testing.T) {
	dir := shared(t)
	if os.Getenv(isolatedEnv) == "" {
		if err := errors.Join(os.Chown(string(dir), 0, 0), os.Chmod(string(dir), 0o777|fs.ModeSticky)); err != nil {
			t.Fatal(err)
		}
		mustSettle(t, dir)
	}
	if !isolated(t, nobody(t)) {
		return
	}
	mustSettle(t, dir)
}

// 43: a process name with blanks and parentheses in it.
func TestRow43OddProcessName(t *testing.T) {
	exe := filepath.Join(t.TempDir(), "a ) R (b")
	if err := exec.Command("cp", executable(), exe).Run(); err != nil {
		t.Skip("no copy of the test: ", err)
	}
	owner := spawn(t, "idle", nil, as("hermes-gateway"), func(cmd *exec.Cmd) { cmd.Path = exe })
	owner.expect("ready")
	stat := readFile(t, fmt.Sprintf("/proc/%d/stat", owner.pid()))
	if !strings.Contains(stat, "(a ) R (b)") {
		t.Fatal(stat)
	}
	dir := newDir(t)
	putLegacy(t, dir, owner.pid(), legacy{"start_time": startOf(t, owner.pid())})
	owns(t, dir, "since the time that the record says")
	// An old gateway counted blanks and took another field for its start.
	putLegacy(t, dir, owner.pid(), legacy{"start_time": 1})
	owns(t, dir, "runs a gateway's command line")
	putLegacy(t, dir, owner.pid(), legacy{"start_time": 1, "updated_at": isoNow(earlier)})
	leaves(t, dir, "after the record was written")

	holder := spawn(t, "hold", []string{string(dir), scope, secret}, func(cmd *exec.Cmd) { cmd.Path = exe })
	holder.expect("held")
	mustRefuse(t, dir, flocklock.StandingVerified)
}

// A disk that is full, and one that becomes read-only. The lock does not need
// the record.
func TestFullAndReadOnlyDisk(t *testing.T) {
	if !isolated(t, namespaces(0)) {
		return
	}
	disk := t.TempDir()
	mount(t, "tmpfs", disk, 0, "size=64k,nr_inodes=10")
	defer unix.Unmount(disk, unix.MNT_DETACH)
	dir := flocklock.Dir(filepath.Join(disk, "locks"))
	mustSettle(t, dir)
	owner := gateway(t)
	putLegacy(t, dir, owner.pid(), nil)
	if err := os.WriteFile(filepath.Join(disk, "fill"), make([]byte, 1<<17), 0o644); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	owns(t, dir, "runs a gateway's command line")
	if report, err := dir.Migrate(flocklock.MigrateOptions{}); !errors.Is(err, unix.ENOSPC) || report[0].Action != flocklock.Kept {
		t.Errorf("migrate: %+v, %v", report, err)
	}
	if err := os.Remove(recordPath(dir)); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(disk, "fill2"), make([]byte, 1<<17), 0o644); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	withoutRecord := func(cause error) {
		t.Helper()
		l, err := tryAcquire(t, dir)
		if err != nil {
			t.Fatal(err)
		}
		if !errors.Is(l.RecordErr(), cause) {
			t.Errorf("record: %v, want %v", l.RecordErr(), cause)
		}
		other := spawn(t, "hold", []string{string(dir), scope, secret})
		other.expect("refused unknown")
		if err := l.Check(); err != nil {
			t.Error(err)
		}
		if err := l.Release(); err != nil {
			t.Error(err)
		}
	}
	withoutRecord(unix.ENOSPC)
	// A record that a killed holder left, and that cannot be replaced, does not
	// make the next one believe that the lock is lost.
	if err := os.Remove(filepath.Join(disk, "fill2")); err != nil {
		t.Fatal(err)
	}
	killed := spawn(t, "hold", []string{string(dir), scope, secret})
	killed.expect("held")
	killed.kill()
	if err := os.WriteFile(filepath.Join(disk, "fill2"), make([]byte, 1<<17), 0o644); !errors.Is(err, unix.ENOSPC) {
		t.Fatal(err)
	}
	l, err := tryAcquire(t, dir)
	if err != nil || !errors.Is(l.RecordErr(), unix.ENOSPC) {
		t.Fatalf("%v, %v", l, err)
	}
	if err := l.Check(); err != nil {
		t.Errorf("a leftover that could not be replaced: %v", err)
	}
	l.Release()
	if err := os.Remove(recordPath(dir)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skip("this machine does not let us remount: ", err)
	}
	withoutRecord(unix.EROFS)
	if _, err := dir.TryAcquire(scope, "another"); !errors.Is(err, unix.EROFS) {
		t.Errorf("a lock file that is not there: %v", err)
	}
	if _, err := flocklock.Dir(filepath.Join(disk, "other")).TryAcquire(scope, secret); !errors.Is(err, unix.EROFS) {
		t.Errorf("a directory that is not there: %v", err)
	}
}

// injected makes system calls of a worker fail, as another file system or
// another Unix would.
func injected(t *testing.T, faults ...string) func(*exec.Cmd) {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("no strace(1): ", err)
	}
	if out, err := exec.Command(strace, "-qq", "-o", "/dev/null", "true").CombinedOutput(); err != nil {
		t.Skipf("this machine does not let us trace: %v: %s", err, out)
	}
	args := []string{"strace", "-f", "-qq", "-o", "/dev/null"}
	var calls []string // no others are stopped at, which costs much
	for _, fault := range faults {
		call, _, _ := strings.Cut(fault, ":")
		calls = append(calls, call)
		args = append(args, "-e", "inject="+fault)
	}
	args = append(args, "--seccomp-bpf", "-e", "trace="+strings.Join(calls, ","))
	return func(cmd *exec.Cmd) {
		cmd.Path, cmd.Args = strace, append(append(args, executable()), cmd.Args[1:]...)
	}
}

// A file system that cannot lock is an error, never a lock and never "held".
// Only EWOULDBLOCK is "held".
func TestFileSystemWithoutLocks(t *testing.T) {
	for errno, unsupported := range map[string]bool{
		"ENOSYS": true, "EOPNOTSUPP": true, "EINVAL": true, "ENOLCK": false, "EBADF": false, "EIO": false, "EPERM": false,
	} {
		dir := newDir(t)
		p := spawn(t, "hold", []string{string(dir), scope, secret}, injected(t, "flock:error="+errno))
		got := p.expect("error: lock " + lockPath(dir))
		if strings.Contains(got, "cannot lock") != unsupported {
			t.Errorf("%s: %s", errno, got)
		}
	}
	dir := newDir(t)
	p := spawn(t, "hold", []string{string(dir), scope, secret}, injected(t, "flock:error=EINTR:when=1..5"))
	p.expect("held")
}

// An acquire that fails holds nothing, even where the kernel refuses at first to
// unlock what it locked.
func TestUnlockRefusedOnce(t *testing.T) {
	dir := newDir(t)
	owner := gateway(t)
	putLegacy(t, dir, owner.pid(), nil)
	p := spawn(t, "try", []string{string(dir), scope, secret}, injected(t, "flock:error=EIO:when=2"))
	p.expect("refused legacy")
	owner.kill()
	mustSettle(t, dir)
}

// A kernel that fails at a bad moment does not give a living old gateway's lock
// away: neither a rename that fails nor a process that cannot be looked at.
func TestFaultsFailClosed(t *testing.T) {
	owner := gateway(t)
	for _, fault := range []string{
		"renameat2:error=EIO:when=1", "renameat2:error=EMFILE:when=1", "renameat2:error=EACCES", "renameat2:error=EIO",
	} {
		dir := newDir(t)
		putLegacy(t, dir, owner.pid(), nil)
		p := spawn(t, "hold", []string{string(dir), scope, secret}, injected(t, fault))
		p.expect("refused legacy")
	}
	dir := newDir(t)
	odd := stranger(t)
	putLegacy(t, dir, odd.pid(), legacy{"start_time": startOf(t, odd.pid())})
	for n := 1; ; n++ {
		p := spawn(t, "hold", []string{string(dir), scope, secret}, injected(t, fmt.Sprintf("openat:error=EMFILE:when=%d", n)))
		got := p.line()
		p.kill()
		if got == "held" {
			t.Errorf("open %d failed, and the lock was given away", n)
		}
		if n > 40 {
			break // past the last
		}
	}
}

// The program's own fcntl locks on other files outlive Lock.File.
func TestFileKeepsOtherLocks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "database")
	file, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	lock := unix.Flock_t{Type: unix.F_WRLCK}
	if err := unix.FcntlFlock(file.Fd(), unix.F_SETLK, &lock); err != nil {
		t.Skip("this file system has no fcntl locks: ", err)
	}
	l := mustAcquire(t, newDir(t))
	inherited, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	inherited.Close()
	locks := readFile(t, "/proc/locks")
	if want := fmt.Sprintf("POSIX  ADVISORY  WRITE %d ", os.Getpid()); !strings.Contains(locks, want) {
		t.Errorf("the lock is gone: no %q in\n%s", want, locks)
	}
}

// What another Unix or another file system lacks is done in another way, with
// the same outcome: no exchange, no rename that does not replace, no hard link.
func TestWithoutExchange(t *testing.T) {
	const links = "linkat:error=EPERM"
	for what, faults := range map[string][]string{
		"hard links": {"renameat2:error=EINVAL"},
		"copies":     {"renameat2:error=ENOSYS", links},
	} {
		t.Run(what, func(t *testing.T) {
			dir := newDir(t)
			hold := func() *proc {
				return spawn(t, "hold", []string{string(dir), scope, secret}, injected(t, faults...))
			}
			fresh := hold()
			fresh.expect("held")
			mustRefuseTraced(t, dir)
			if got := fresh.finish(); got != "released <nil>" {
				t.Error(got)
			}
			dead := stranger(t)
			dead.kill()
			for _, leave := range []func(){
				func() { p := spawn(t, "hold", []string{string(dir), scope, secret}); p.expect("held"); p.kill() },
				func() { putLegacy(t, dir, dead.pid(), nil) },
				func() { put(t, dir, "") },
				func() { os.Symlink("nowhere", recordPath(dir)) },
			} {
				leave()
				p := hold()
				p.expect("held")
				mustRefuseTraced(t, dir)
				p.finish()
				if got := files(t, dir); len(got) != 1 {
					t.Errorf("left behind: %v", got)
				}
			}
			owner := gateway(t)
			putLegacy(t, dir, owner.pid(), nil)
			hold().expect("refused legacy")
			migrate := spawn(t, "migrate", []string{string(dir)}, injected(t, faults...))
			migrate.expect("converted")
			owns(t, dir, "since the time that the record says")
			owner.kill()
			migrate = spawn(t, "migrate", []string{string(dir)}, injected(t, faults...))
			migrate.expect("removed")
			mustSettle(t, dir)
		})
	}
}

// Where names cannot be exchanged, a crash may leave a living gateway's record
// aside. It owns the lock from there.
func TestLeftAsideWithoutExchange(t *testing.T) {
	dir := newDir(t)
	owner := gateway(t)
	putLegacy(t, dir, owner.pid(), nil)
	moveAside(t, dir)
	p := spawn(t, "hold", []string{string(dir), scope, secret}, injected(t, "renameat2:error=EINVAL"))
	p.expect("refused legacy")
	owns(t, dir, "runs a gateway's command line")
	owner.kill()
	mustSettle(t, dir)
}

// moveAside leaves a record aside as a crash does: with the one beside it that
// was to take its place.
func moveAside(t *testing.T, dir flocklock.Dir) {
	t.Helper()
	beside := filepath.Join(string(dir), "."+name)
	if err := errors.Join(os.WriteFile(beside+".tmp", nil, 0o644), os.Rename(recordPath(dir), beside+".old")); err != nil {
		t.Fatal(err)
	}
}

// Where names cannot be exchanged, and the stale record that was moved aside not
// be removed, ours stands at the path all the same.
func TestAsideNotRemoved(t *testing.T) {
	dir := newDir(t)
	put(t, dir, `{"pid": 0}`)
	p := spawn(t, "try", []string{string(dir), scope, secret}, injected(t, "renameat2:error=EINVAL", "unlinkat:error=EIO:when=1"))
	p.expect("ok")
	if text, err := os.ReadFile(recordPath(dir)); err != nil || !strings.Contains(string(text), `"format":2`) {
		t.Errorf("the record: %s, %v", text, err)
	}
	mustRefuseTraced(t, dir)
	if _, err := os.Stat(filepath.Join(string(dir), "."+name+".old")); err != nil {
		t.Error("the fault did not come about: ", err)
	}
}

// A living gateway's record that a crash left aside owns the lock, even where
// nothing can be written in its place.
func TestLeftAsideWithoutWriting(t *testing.T) {
	dir := newDir(t)
	owner := gateway(t)
	putLegacy(t, dir, owner.pid(), nil)
	aside := filepath.Join(string(dir), "."+name+".tmp")
	if err := os.Rename(recordPath(dir), aside); err != nil {
		t.Fatal(err)
	}
	p := spawn(t, "try", []string{string(dir), scope, secret}, injected(t, "openat:error=EMFILE:when=1"), onlyOn(aside))
	p.expect("refused legacy")
	owns(t, dir, "runs a gateway's command line")
}

// What cannot be removed beside the record, as another user's file in a sticky
// directory, does not keep the record from being judged.
func TestLeftAsideForEver(t *testing.T) {
	dir := newDir(t)
	putLegacy(t, dir, gateway(t).pid(), nil)
	aside := filepath.Join(string(dir), "."+name+".old")
	for _, left := range []string{aside, filepath.Join(string(dir), "."+name+".tmp")} {
		if err := os.WriteFile(left, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	p := spawn(t, "try", []string{string(dir), scope, secret}, injected(t, "unlinkat,unlink,rmdir:error=EPERM"), onlyOn(aside))
	p.expect("refused legacy")
	owns(t, dir, "runs a gateway's command line")
}

// mustRefuseTraced is mustRefuse for a holder that is traced, and so stopped at
// times.
func mustRefuseTraced(t *testing.T, dir flocklock.Dir) {
	t.Helper()
	_, err := tryAcquire(t, dir)
	var refused *flocklock.HeldError
	if !errors.As(err, &refused) || refused.Holder.Standing != flocklock.StandingVerified && refused.Holder.Standing != flocklock.StandingStopped {
		t.Errorf("%v", err)
	}
}

// The kernel does not answer, as with a network file system whose server is
// gone: the context frees its caller all the same.
func TestContextWhileTheKernelHangs(t *testing.T) {
	for _, call := range []string{"flock", "openat", "newfstatat"} {
		dir := newDir(t)
		p := spawn(t, "give-up", []string{string(dir), scope, secret},
			injected(t, call+":delay_enter=600s"), onlyOn(lockPath(dir)))
		p.expect("gave up true")
		p.kill()
	}
}

// onlyOn makes the system calls fail on one path only.
func onlyOn(path string) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) { cmd.Args = slices.Insert(cmd.Args, 1, "-P", path) }
}

// 31: the lock file is removed between a starter's open and its flock. What it
// then locks has no name, so it must lock another.
func TestRow31RemovedBeforeTheLock(t *testing.T) {
	dir := newDir(t)
	p := spawn(t, "check", []string{string(dir), scope, secret}, injected(t, "flock:delay_enter=1s:when=1"), onlyOn(lockPath(dir)))
	until(t, "the lock file is made", func() bool { return len(files(t, dir)) == 1 })
	if err := os.Remove(lockPath(dir)); err != nil {
		t.Fatal(err)
	}
	p.expect("held")
	p.tell("check")
	p.expect("ok")
	mustRefuse(t, dir, flocklock.StandingVerified)
}

// 35: another user's process is not ended, not even by root.
func TestRow35OtherUser(t *testing.T) {
	dir := shared(t)
	p := spawn(t, "deaf", []string{string(dir), scope, secret},
		func(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{} }, nobody(t))
	p.expect("held")
	mustSpare(t, dir, p, "another user's process")
}

// Where the system does not tell of a process's end, an old gateway's is seen all
// the same.
func TestWaitForOldGatewayWithoutHandle(t *testing.T) {
	dir := newDir(t)
	old := gateway(t)
	putLegacy(t, dir, old.pid(), legacy{"start_time": startOf(t, old.pid())})
	p := spawn(t, "wait-for-gateway", []string{string(dir), scope, secret}, injected(t, "pidfd_open:error=ENOSYS"))
	p.expect("waiting")
	old.kill()
	p.expect("held")
}
