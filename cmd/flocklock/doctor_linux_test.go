package main_test

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// kept are the inputs of processes that end when they do.
var kept []io.Closer

func init() {
	// covered puts a file or a directory of its own in a path's place, and
	// becomes the command.
	workers["covered"] = func(args []string) {
		path, text := args[0], args[1]
		if err := cover(path, text); err != nil {
			fmt.Println("not covered:", err)
			os.Exit(3)
		}
		fmt.Println(syscall.Exec(executable(), append([]string{executable()}, args[2:]...), os.Environ()))
	}
	// fresh-proc shows only the processes of its own PID namespace, and starts
	// the command there.
	workers["fresh-proc"] = func(args []string) {
		if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
			fmt.Println("not covered:", err)
			os.Exit(3)
		}
		fmt.Println(syscall.Exec(executable(), append([]string{executable()}, args...), os.Environ()))
	}
	// holding holds a lock beside a process with a command line, and another one
	// as hermes-gateway, and runs the doctor.
	workers["holding"] = func(args []string) {
		spawn := func(name string, args ...string) {
			cmd := exec.Command(executable(), args...)
			cmd.Args[0] = name
			in, err := cmd.StdinPipe()
			out, oerr := cmd.StdoutPipe()
			if err := errors.Join(err, oerr, cmd.Start()); err != nil {
				fmt.Println(err)
				os.Exit(3)
			}
			bufio.NewReader(out).ReadString('\n')
			kept = append(kept, in)
		}
		spawn("test", append([]string{"worker", "echo"}, args[1:]...)...)
		spawn("test", running(args[0], nil, "echo")...)
		spawn("hermes-gateway", "run", "--dir", args[0], "--scope", "irc", "--identity-env", "TOKEN", "--", executable(), "worker", "echo")
		cmd := exec.Command(executable(), "doctor", "--json", "--dir", args[0])
		cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
		cmd.Run()
		os.Exit(cmd.ProcessState.ExitCode()) // and with the first process of the namespace all others
	}
	// accompanied starts a child, which inherits what this process has open, and
	// does as echo does.
	workers["accompanied"] = func([]string) {
		child := exec.Command(executable(), "worker", "echo")
		in, err := child.StdinPipe()
		if err := errors.Join(err, child.Start()); err != nil {
			fmt.Println(err)
			return
		}
		kept = append(kept, in)
		fmt.Println("child", child.Process.Pid)
		echo()
	}
	workers["overlaid"] = func(args []string) {
		if err := overlay(args[0]); err != nil {
			fmt.Println("not overlaid:", err)
			os.Exit(3)
		}
		fmt.Println(syscall.Exec(executable(), append([]string{executable()}, args[1:]...), os.Environ()))
	}
	workers["unanswered"] = func(args []string) { mountFUSE(args, func(*os.File) {}) }
	workers["fuse"] = func(args []string) { mountFUSE(args, serveFUSE) }
}

// cover mounts a file with a text over a file, or a directory with such a file
// over a directory.
func cover(path, text string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		if err := unix.Mount("tmpfs", path, "tmpfs", 0, ""); err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(path, "test.conf"), []byte(text), 0o644)
	}
	file, err := os.CreateTemp("", "flocklock")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	defer file.Close()
	if _, err := file.WriteString(text); err != nil {
		return err
	}
	return unix.Mount(file.Name(), path, "", unix.MS_BIND, "")
}

// overlay mounts an overlay file system, all of it in memory.
func overlay(path string) error {
	if err := unix.Mount("tmpfs", path, "tmpfs", 0, ""); err != nil {
		return err
	}
	dir := func(name string) string { return filepath.Join(path, name) }
	for _, name := range []string{"lower", "upper", "work"} {
		if err := os.Mkdir(dir(name), 0o755); err != nil {
			return err
		}
	}
	return unix.Mount("overlay", path, "overlay", 0,
		fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", dir("lower"), dir("upper"), dir("work")))
}

// diagnoseCovered is diagnose where a text stands at a path.
func diagnoseCovered(t *testing.T, path, text, dir string, flags ...string) diagnosis {
	t.Helper()
	return diagnosedIn(t, unix.CLONE_NEWNS, slices.Concat([]string{"worker", "covered", path, text, "doctor", "--json", "--dir", dir}, flags)...)
}

// diagnosedIn runs a doctor in namespaces of its own.
func diagnosedIn(t *testing.T, namespaces uintptr, args ...string) diagnosis {
	t.Helper()
	if err := canIsolate(); err != nil {
		t.Skip("this machine does not let us isolate a process: ", err)
	}
	cmd := flocklock(args...)
	cmd.SysProcAttr = isolated(namespaces)
	return diagnosed(t, cmd)
}

var canIsolate = sync.OnceValue(func() error {
	probe := flocklock("worker", "covered", os.TempDir(), "", "worker", "exit", "0")
	probe.SysProcAttr = isolated(unix.CLONE_NEWNS | unix.CLONE_NEWPID)
	return probe.Run()
})

// isolated is for a process in namespaces of its own, where it is root.
func isolated(namespaces uintptr) *syscall.SysProcAttr {
	if os.Geteuid() == 0 {
		return &syscall.SysProcAttr{Unshareflags: namespaces &^ unix.CLONE_NEWPID, Cloneflags: namespaces & unix.CLONE_NEWPID}
	}
	return &syscall.SysProcAttr{
		Cloneflags:  namespaces | unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}},
	}
}

// TestRow29DoctorNames: who inherited the lock is named, while the owner lives and
// afterwards.
func TestRow29DoctorNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := start(t, flocklock(running(dir, []string{"--exec"}, "accompanied")...))
	child := fmt.Sprintf("flocklock.test worker echo (PID %s)", p.expect("child "))
	p.expect("pid ")
	d := diagnose(t, dir, "--fix")
	d.hasNot(t, "holder-unknown")
	if f := d.has(t, "holder-inherited", "note"); !strings.Contains(f.What, "Its lock file is held by "+child+".") || !strings.Contains(f.Mend, "End "+child) {
		t.Errorf("beside the owner: %+v", f)
	}

	dir = t.TempDir()
	p = start(t, flocklock(running(dir, nil, "echo")...))
	command := fmt.Sprintf("flocklock.test worker echo (PID %s)", p.expect("pid "))
	p.kill()
	p.ping()
	if f := diagnose(t, dir).has(t, "holder-unknown", "problem"); !strings.Contains(f.What, "Its lock file is held by "+command+".") || !strings.Contains(f.Mend, "End "+command) {
		t.Errorf("without the owner: %+v", f)
	}
}

// TestDoctorTmpfiles: systemd-tmpfiles would remove the files of held locks.
func TestDoctorTmpfiles(t *testing.T) {
	t.Parallel()
	const config = "/etc/tmpfiles.d"
	if _, err := os.Stat(config); err != nil {
		t.Skip("this machine has no directory to cover: ", err)
	}
	dir := filepath.Join(t.TempDir(), "locks")
	above := filepath.Dir(dir)
	for _, c := range []struct {
		line    string
		cleaned bool
	}{
		{"q " + above + " 0755 root root 10d", true},
		{"# q " + above + " 0755 root root 10d", false},
		{"d! " + dir + " - - - ~3d", true},
		{"e " + above + "/* - - - 1w", true},
		{"e " + above + "/*x - - - 1w", false},
		{"D " + above + " 0755 root root -", false},
		{"q " + above + " 0755 root root", false},
		{"q " + above + " - - - 10d\nd " + dir + " - - - -", false},
		{"q " + above + " - - - 10d\nx " + dir, false},
		{"q " + above + "-other - - - 10d", false},
		{"f " + above + " - - - 10d", false},
	} {
		found := diagnoseCovered(t, config, c.line+"\n", dir).of("temporary-cleaned")
		if c.cleaned != (len(found) == 1) || c.cleaned && (found[0].Severity != "problem" || !strings.Contains(found[0].What, c.line)) {
			t.Errorf("with %q: %+v", c.line, found)
		}
	}
}

// TestRow41ProtectedRegular: a directory in which the kernel does not let one
// user create what another has.
func TestRow41ProtectedRegular(t *testing.T) {
	t.Parallel()
	const setting = "/proc/sys/fs/protected_regular"
	if _, err := os.Stat(setting); err != nil {
		t.Skip("this kernel has no such setting: ", err)
	}
	dir := t.TempDir()
	for _, c := range []struct {
		level string
		mode  os.FileMode
		found bool
	}{
		{"1\n", 0o777 | os.ModeSticky, true},
		{"1\n", 0o770 | os.ModeSticky, false},
		{"2\n", 0o770 | os.ModeSticky, true},
		{"2\n", 0o700 | os.ModeSticky, false},
		{"2\n", 0o770, false},
		{"0\n", 0o777 | os.ModeSticky, false},
	} {
		chmod(t, dir, c.mode)
		found := diagnoseCovered(t, setting, c.level, dir).of("protected-regular")
		if c.found != (len(found) == 1) || c.found && found[0].Severity != "note" {
			t.Errorf("%+v: %+v", c, found)
		}
	}
}

// TestRow26Sudo: who uses sudo is told of the directory that he has without.
func TestRow26Sudo(t *testing.T) {
	home := t.TempDir()
	theirs := mkdir(t, locksBelow(filepath.Join(home, ".local", "state")))
	t.Setenv("SUDO_USER", "somebody")
	users := "root:x:0:0:root:/root:/bin/sh\nsomebody:x:12345:12345::" + home + ":/bin/sh\n"
	d := diagnoseCovered(t, "/etc/passwd", users, t.TempDir())
	if !slices.ContainsFunc(d.of("directory-elsewhere"), func(f finding) bool {
		return f.Path == theirs && f.Severity == "note" && strings.Contains(f.What, "started by somebody without sudo")
	}) {
		t.Errorf("findings: %+v", d.Findings)
	}
}

// TestRow45Running: without a trace of an old gateway nobody would take the
// lock; a process is one.
func TestRow45Running(t *testing.T) {
	dir := t.TempDir()
	namespaces := uintptr(unix.CLONE_NEWNS | unix.CLONE_NEWPID)
	doctor := []string{"worker", "fresh-proc", "worker", "holding", dir}
	diagnosedIn(t, namespaces, doctor...).hasNot(t, "command-line-not-gateway")
	f := diagnosedIn(t, namespaces, append(doctor, "hermes", "gateway")...).has(t, "command-line-not-gateway", "problem")
	if !strings.Contains(f.What, "an old gateway may be running (PID ") {
		t.Errorf("finding: %+v", f)
	}
}

// TestRow30DoesNotExclude: the kernel grants every lock.
func TestRow30DoesNotExclude(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := diagnoseTampered(t, dir, "flock:retval=0")
	if f := d.has(t, "locks-do-not-exclude", "problem"); !strings.Contains(f.What, "two descriptors of one process") {
		t.Errorf("finding: %+v", f)
	}
	same(t, "files", files(t, dir), []string{})
}

// TestRow30CannotLock: the file system has no locks.
func TestRow30CannotLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := diagnoseTampered(t, dir, "flock:error=ENOSYS")
	if f := d.has(t, "locks-not-tried", "problem"); !strings.Contains(f.What, "cannot lock") {
		t.Errorf("finding: %+v", f)
	}
	same(t, "files", files(t, dir), []string{})
}

// diagnoseTampered is diagnose with a system call that does not do its work.
func diagnoseTampered(t *testing.T, dir, inject string) diagnosis {
	t.Helper()
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Skip("no strace: ", err)
	}
	if err := exec.Command(strace, "-o", os.DevNull, "true").Run(); err != nil {
		t.Skip("this machine does not let strace trace: ", err)
	}
	cmd := flocklock("doctor", "--json", "--dir", dir)
	cmd.Path = strace
	cmd.Args = append([]string{"strace", "-f", "--seccomp-bpf", "-o", os.DevNull, "-e", "trace=flock", "-e", "inject=" + inject, executable()}, cmd.Args[1:]...)
	return diagnosed(t, cmd)
}

// TestDoctorManyFiles: a thousand files are not too many.
func TestDoctorManyFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for i := range 500 {
		old := fmt.Sprintf("irc-%016x", i)
		write(t, filepath.Join(dir, old+".flock"), "")
		write(t, filepath.Join(dir, old+".lock"), `{"pid": 0, "kind": "hermes-gateway"}`)
	}
	start := time.Now()
	d := diagnose(t, dir)
	took := time.Since(start)
	t.Log("it took ", took)
	d.hasNot(t, "unfinished")
	if f := d.has(t, "leftovers", "note"); !strings.Contains(f.What, " and 497 more") {
		t.Errorf("finding: %+v", f)
	}
	diagnose(t, dir, "--fix").has(t, "leftovers", "note")
	same(t, "files after --fix", len(files(t, dir)), 500)
}

// mountFUSE mounts a file system that this process serves, runs the command on
// a directory, by "MOUNT" in its arguments, and exits as that does.
func mountFUSE(args []string, serve func(*os.File)) {
	// Not by os.OpenFile, which gives a device to the runtime's poller: that takes
	// what it says of itself before it is mounted for an error that stays.
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		err = unix.Mount("test", args[0], "fuse", 0, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", fd))
	}
	if err != nil {
		fmt.Println("not mounted:", err)
		os.Exit(3)
	}
	device := os.NewFile(uintptr(fd), "/dev/fuse")
	go serve(device)
	cmd := exec.Command(executable(), args[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Run()
	runtime.KeepAlive(device)
	os.Exit(cmd.ProcessState.ExitCode()) // which ends what hangs there
}

// serveFUSE answers the few questions of who looks at a directory that is not
// there, as fuse(4) has them.
func serveFUSE(device *os.File) {
	const lookup, getattr, statfs, initialize, access = 1, 3, 17, 26, 34
	for request := make([]byte, 1<<20); ; {
		n, err := device.Read(request)
		if err != nil || n < 40 {
			return
		}
		var body []byte
		code := int32(0)
		switch binary.NativeEndian.Uint32(request[4:]) {
		case initialize:
			body = make([]byte, 64)
			binary.NativeEndian.PutUint32(body, 7)
			binary.NativeEndian.PutUint32(body[4:], 31)
			binary.NativeEndian.PutUint32(body[20:], 4096) // max_write
		case getattr:
			body = make([]byte, 104)
			binary.NativeEndian.PutUint64(body[16:], 1)          // the root
			binary.NativeEndian.PutUint32(body[16+60:], 0o40755) // mode
			binary.NativeEndian.PutUint32(body[16+64:], 2)       // links
		case statfs:
			body = make([]byte, 80)
		case access:
		case lookup:
			code = -int32(unix.ENOENT)
		default:
			code = -int32(unix.ENOSYS)
		}
		answer := make([]byte, 16, 16+len(body))
		binary.NativeEndian.PutUint32(answer, uint32(16+len(body)))
		binary.NativeEndian.PutUint32(answer[4:], uint32(code))
		copy(answer[8:16], request[8:16])
		if _, err := device.Write(append(answer, body...)); err != nil {
			return
		}
	}
}

// onFUSE runs the doctor on a directory below a mounted file system.
func onFUSE(t *testing.T, worker string) (d diagnosis, below string) {
	t.Helper()
	mnt := t.TempDir()
	below = filepath.Join(mnt, "locks")
	probe := flocklock("worker", worker, mnt, "worker", "exit", "0")
	probe.SysProcAttr = isolated(unix.CLONE_NEWNS)
	if out, err := probe.CombinedOutput(); err != nil {
		t.Skipf("no FUSE here: %s%v", out, err)
	}
	cmd := flocklock("worker", worker, mnt, "doctor", "--json", "--dir", below)
	cmd.SysProcAttr = probe.SysProcAttr
	if worker == "unanswered" {
		cmd.Env = append(cmd.Env, hurryEnv+"=1")
	}
	return diagnosed(t, cmd), below
}

// TestRow30FUSE: a file system that somebody serves may lock for one host only.
func TestRow30FUSE(t *testing.T) {
	t.Parallel()
	d, below := onFUSE(t, "fuse")
	if f := d.has(t, "file-system", "note"); !strings.Contains(f.What, "FUSE") || f.Path != filepath.Dir(below) {
		t.Errorf("finding: %+v", f)
	}
	d.hasNot(t, "unfinished")
}

// TestDoctorOverlay: a container's own layer is no directory that others have.
func TestDoctorOverlay(t *testing.T) {
	t.Parallel()
	mnt := t.TempDir()
	probe := flocklock("worker", "overlaid", mnt, "worker", "exit", "0")
	probe.SysProcAttr = isolated(unix.CLONE_NEWNS)
	if out, err := probe.CombinedOutput(); err != nil {
		t.Skipf("no overlay file system here: %s%v", out, err)
	}
	d := diagnosedIn(t, unix.CLONE_NEWNS, "worker", "overlaid", mnt, "doctor", "--json", "--dir", filepath.Join(mnt, "locks"))
	if f := d.has(t, "file-system", "note"); !strings.Contains(f.What, "overlay") || !strings.Contains(f.Mend, "volume") {
		t.Errorf("finding: %+v", f)
	}
}

// TestDoctorUnanswered: a file system that does not answer does not make the
// doctor wait for longer than it promises.
func TestDoctorUnanswered(t *testing.T) {
	t.Parallel()
	d, below := onFUSE(t, "unanswered")
	if f := d.has(t, "unfinished", "problem"); f.Path != below {
		t.Errorf("finding: %+v", f)
	}
}
