package flocklock_test

// The file systems that a lock directory may be on. Each is mounted in a mount
// namespace of its own, so that nothing of it outlives the test, however that
// ends. The README's table of file systems says what is asserted here.

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flocklock/flocklock"
	"golang.org/x/sys/unix"
)

// A fileSystem is one with the directory that locks are taken in.
type fileSystem struct {
	dir flocklock.Dir

	// Other ways to the same directory: those on which a lock of dir is seen,
	// and those on which it is not.
	sees, blind map[string]string

	exchanges bool // two names, in one step
	nameless  bool // the kernel does not tell who holds
	late      bool // the lock of a killed process may be dropped after its end
}

var fileSystems = map[string]func(t *testing.T) fileSystem{
	"tmpfs": func(t *testing.T) fileSystem {
		at := mounted(t, "tmpfs", "tmpfs", "size=1m")
		return fileSystem{
			dir:       flocklock.Dir(at),
			sees:      map[string]string{"a bind mount": bound(t, at)},
			blind:     map[string]string{"another tmpfs": mounted(t, "tmpfs", "tmpfs", "size=1m")},
			exchanges: true,
		}
	},
	"ext4":  func(t *testing.T) fileSystem { return onLoop(t, "ext4", 16, "mkfs.ext4", "-q", "-F") },
	"xfs":   func(t *testing.T) fileSystem { return onLoop(t, "xfs", 300, "mkfs.xfs", "-q", "-f") },
	"btrfs": func(t *testing.T) fileSystem { return onLoop(t, "btrfs", 128, "mkfs.btrfs", "-q", "-f") },

	// The lock file and a dead holder's record come with the lower layer, as in
	// an image of a container, and both layers are of one file system.
	"overlayfs": func(t *testing.T) fileSystem {
		return overlay(t, mounted(t, "tmpfs", "tmpfs", "size=4m"), "")
	},
	"overlayfs on two file systems": func(t *testing.T) fileSystem {
		return overlay(t, mounted(t, "tmpfs", "tmpfs", "size=4m"), mounted(t, "tmpfs", "tmpfs", "size=1m"))
	},

	"FUSE": func(t *testing.T) fileSystem {
		source := t.TempDir()
		at := mirrored(t, source)
		return fileSystem{
			dir:   flocklock.Dir(at),
			sees:  map[string]string{"a bind mount": bound(t, at)},
			blind: map[string]string{"another mount": mirrored(t, source), "the source": source},
		}
	},
	"FUSE that forwards locks": func(t *testing.T) fileSystem {
		source := t.TempDir()
		forward := []string{"--multithreaded", "--enable-lock-forwarding"}
		at := mirrored(t, source, forward...)
		return fileSystem{
			dir:      flocklock.Dir(at),
			sees:     map[string]string{"a bind mount": bound(t, at), "another mount": mirrored(t, source, forward...), "the source": source},
			nameless: true, late: true,
		}
	},
	"NFS":  func(t *testing.T) fileSystem { return remote(t, "nfs4", "127.0.0.1:/", "addr=127.0.0.1,vers=4.2") },
	"CIFS": func(t *testing.T) fileSystem { return remote(t, "cifs", "//127.0.0.1/locks", "guest,ip=127.0.0.1") },
}

// What is needed of a file system: locks exclude between processes, on every
// way to the directory that leads to the same file; who holds is known; a killed
// holder's lock is free at once, and goes to who waits; the record is there and
// is replaced; a lost lock file is noticed.
func TestFileSystems(t *testing.T) {
	for what, prepare := range fileSystems {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			if !isolated(t, namespaces(0)) {
				return
			}
			if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
				t.Skip("this machine does not let us mount: ", err)
			}
			f := prepare(t)
			t.Run("exclude", f.exclude)
			t.Run("kill", f.kill)
			t.Run("record", f.record)
			t.Run("lost", f.lost)
		})
	}
}

func (f fileSystem) exclude(t *testing.T) {
	p := spawn(t, "hold", []string{string(f.dir), scope, secret})
	p.expect("held")
	mustRefuse(t, f.dir, flocklock.StandingVerified)
	if found, err := f.dir.Holders(name); f.nameless != (len(found) == 0) {
		t.Errorf("holders: %v, %v", found, err)
	}
	for way, dir := range f.sees {
		if _, err := tryAcquire(t, flocklock.Dir(dir)); !errors.Is(err, flocklock.ErrHeld) {
			t.Errorf("on %s: %v", way, err)
		}
	}
	for way, dir := range f.blind {
		// By flock(2) alone: a layer of an overlay may not be changed under it.
		file, err := os.OpenFile(lockPath(flocklock.Dir(dir)), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			t.Errorf("on %s: %v", way, err)
		}
		file.Close()
	}
	if f.nameless { // and so nobody can be ended
		if l, err := takeOver(t, f.dir, flocklock.TakeOverOptions{}); l != nil || !errors.Is(err, flocklock.ErrNotTakenOver) {
			t.Errorf("take-over: %v, %v", l, err)
		}
	}
	if got := p.finish(); got != "released <nil>" {
		t.Error(got)
	}
	mustSettle(t, f.dir)
}

func (f fileSystem) kill(t *testing.T) {
	p := spawn(t, "hold", []string{string(f.dir), scope, secret})
	p.expect("held")
	p.kill()
	killed := time.Now()
	if !f.late {
		mustAcquire(t, f.dir).Release()
	}
	until(t, "the lock is free", func() bool {
		l, err := f.dir.TryAcquire(scope, secret)
		if err == nil {
			l.Release()
		}
		return err == nil
	})
	t.Logf("free %v after the end", time.Since(killed))

	p = spawn(t, "hold", []string{string(f.dir), scope, secret})
	p.expect("held")
	next := spawn(t, "wait", []string{string(f.dir), scope, secret})
	next.expect("waiting")
	p.kill()
	next.expect("held")
	next.finish()
}

// record: one that a killed holder left and one of an old gateway are replaced.
func (f fileSystem) record(t *testing.T) {
	a, b := filepath.Join(string(f.dir), "a"), filepath.Join(string(f.dir), "b")
	for _, path := range []string{a, b} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	err := unix.Renameat2(unix.AT_FDCWD, a, unix.AT_FDCWD, b, unix.RENAME_EXCHANGE)
	if (err == nil) != f.exchanges {
		t.Errorf("exchange: %v", err)
	}
	os.Remove(a)
	os.Remove(b)

	p := spawn(t, "hold", []string{string(f.dir), scope, secret})
	p.expect("held")
	p.kill()
	until(t, "the lock is free", func() bool {
		s, err := f.dir.Inspect(scope, secret)
		return err == nil && s.State == flocklock.Free
	})
	mustSettle(t, f.dir)
	dead := stranger(t)
	dead.kill()
	putLegacy(t, f.dir, dead.pid(), nil)
	mustSettle(t, f.dir)
	owner := gateway(t)
	putLegacy(t, f.dir, owner.pid(), nil)
	owns(t, f.dir, "runs a gateway's command line")
	report, err := f.dir.Migrate(flocklock.MigrateOptions{})
	if err != nil || len(report) != 1 || report[0].Action != flocklock.Converted {
		t.Errorf("migrate: %+v, %v", report, err)
	}
	owner.kill()
	mustSettle(t, f.dir)
}

func (f fileSystem) lost(t *testing.T) {
	l := mustAcquire(t, f.dir)
	if err := l.Check(); err != nil {
		t.Error(err)
	}
	if err := os.Remove(lockPath(f.dir)); err != nil {
		t.Fatal(err)
	}
	if err := l.Check(); !errors.Is(err, flocklock.ErrLost) {
		t.Errorf("check: %v", err)
	}
}

// mountpoint is a new directory, from which a mount is gone before it is removed.
func mountpoint(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

func mounted(t *testing.T, source, fstype, data string) string {
	t.Helper()
	dir := mountpoint(t)
	if err := unix.Mount(source, dir, fstype, 0, data); err != nil {
		t.Skipf("this machine does not let us mount %s: %v", fstype, err)
	}
	return dir
}

func bound(t *testing.T, dir string) string {
	t.Helper()
	other := mountpoint(t)
	if err := unix.Mount(dir, other, "", unix.MS_BIND, ""); err != nil {
		t.Skip("this machine does not let us bind a mount: ", err)
	}
	return other
}

// onLoop is a new file system in a file.
func onLoop(t *testing.T, fstype string, megabytes int64, mkfs ...string) fileSystem {
	t.Helper()
	needs(t, fstype)
	device := loopDevice(t, megabytes, mkfs)
	first, second := mounted(t, device, fstype, ""), mounted(t, device, fstype, "")
	return fileSystem{
		dir:       flocklock.Dir(filepath.Join(first, "locks")),
		sees:      map[string]string{"a bind mount": filepath.Join(bound(t, first), "locks"), "another mount": filepath.Join(second, "locks")},
		exchanges: true,
	}
}

// needs skips where the kernel has no such file system, or would have to load a
// module that is not there.
func needs(t *testing.T, fstype string) {
	t.Helper()
	if strings.Contains(readFile(t, "/proc/filesystems"), "\t"+fstype+"\n") {
		return
	}
	out, err := exec.Command("modprobe", fstype).CombinedOutput()
	if err != nil {
		t.Skipf("this kernel has no %s: %v: %s", fstype, err, bytes.TrimSpace(out))
	}
}

// loopDevice makes a file system in a file that is a device for as long as the device
// is mounted.
func loopDevice(t *testing.T, megabytes int64, mkfs []string) (device string) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, megabytes<<20); err != nil {
		t.Fatal(err)
	}
	program, err := exec.LookPath(mkfs[0])
	if err != nil {
		program, err = exec.LookPath("/usr/sbin/" + mkfs[0]) // where PATH may lack it
	}
	if err != nil {
		t.Skipf("no %s(8): %v", mkfs[0], err)
	}
	if out, err := exec.Command(program, append(mkfs[1:], image)...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", program, err, out)
	}
	backing, err := os.OpenFile(image, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer backing.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Skip("this machine has no loop devices: ", err)
	}
	defer control.Close()
	for range 20 { // another may take the free one first
		n, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Skip("this machine gives no loop device: ", err)
		}
		device := fmt.Sprint("/dev/loop", n)
		file, err := os.OpenFile(device, os.O_RDWR, 0)
		if err != nil {
			t.Skip("this machine does not let us open a loop device: ", err)
		}
		t.Cleanup(func() { file.Close() })
		config := unix.LoopConfig{Fd: uint32(backing.Fd())}
		config.Info.Flags = unix.LO_FLAGS_AUTOCLEAR
		err = unix.IoctlLoopConfigure(int(file.Fd()), &config)
		if err == nil {
			return device
		}
		if !errors.Is(err, unix.EBUSY) {
			t.Skip("this machine does not let us set up a loop device: ", err)
		}
	}
	t.Skip("somebody else takes every loop device")
	return ""
}

// overlay mounts an overlay whose layers are in base, or the lower one in
// another directory.
func overlay(t *testing.T, base, lower string) fileSystem {
	t.Helper()
	if lower == "" {
		lower = filepath.Join(base, "lower")
	}
	upper, work := filepath.Join(base, "upper"), filepath.Join(base, "work")
	otherUpper, otherWork := filepath.Join(base, "upper2"), filepath.Join(base, "work2")
	for _, dir := range []string{lower, upper, work, otherUpper, otherWork} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	p := spawn(t, "hold", []string{lower, scope, secret})
	p.expect("held")
	p.kill()
	const layers = "lowerdir=%s,upperdir=%s,workdir=%s"
	merged := mounted(t, "overlay", "overlay", fmt.Sprintf(layers, lower, upper, work))
	return fileSystem{
		dir:  flocklock.Dir(merged),
		sees: map[string]string{"a bind mount": bound(t, merged)},
		blind: map[string]string{
			"the lower layer": lower, "the upper layer": upper,
			"another overlay": mounted(t, "overlay", "overlay", fmt.Sprintf(layers, lower, otherUpper, otherWork)),
		},
		exchanges: true,
	}
}

// mirrored mounts a directory once more, through bindfs(1).
func mirrored(t *testing.T, source string, flags ...string) string {
	t.Helper()
	bindfs, err := exec.LookPath("bindfs")
	if err != nil {
		t.Skip("no bindfs(1): ", err)
	}
	dir := mountpoint(t)
	cmd := exec.Command(bindfs, append(flags, "-f", source, dir)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { // ends with bindfs
		cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		unix.Unmount(dir, unix.MNT_DETACH)
		cmd.Process.Kill()
		<-ended
	})
	until(t, "bindfs mounts", func() bool {
		select {
		case <-ended:
			t.Skip("this machine does not let us mount FUSE: ", out.String())
		default:
		}
		return strings.Contains(readFile(t, "/proc/self/mountinfo"), " "+dir+" ")
	})
	return dir
}

// remote is a file server's, which nobody has set up for this test: it says why,
// and what there is to try where somebody has.
func remote(t *testing.T, fstype, source, data string) fileSystem {
	t.Helper()
	needs(t, fstype)
	at := mounted(t, source, fstype, data)
	return fileSystem{dir: flocklock.Dir(at), sees: map[string]string{"a bind mount": bound(t, at)}}
}
