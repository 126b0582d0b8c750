//go:build unix

package main_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

const nobody = 65534

// asNobody makes a command one of another user that cannot do what root can.
func asNobody(t *testing.T, cmd *exec.Cmd) *exec.Cmd {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can become another user")
	}
	dir, err := os.MkdirTemp("", "flocklock") // t.TempDir is root's alone
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	exe := filepath.Join(dir, "test")
	if os.Link(executable(), exe) != nil { // costs less than a copy
		if err := exec.Command("cp", executable(), exe).Run(); err != nil {
			t.Skip("no copy of the test for another user: ", err)
		}
	}
	chmod(t, dir, 0o755)
	chmod(t, exe, 0o755)
	cmd.Path, cmd.Dir = exe, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return cmd
}

func chmod(t *testing.T, path string, mode os.FileMode) {
	t.Helper()
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func modeOf(t *testing.T, path string) os.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode()
}

// nobodysDir is a directory of the other user's.
func nobodysDir(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root gives a directory away")
	}
	dir, err := os.MkdirTemp("", "flocklock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chown(dir, nobody, nobody); err != nil {
		t.Skip("this root may not give a directory away: ", err)
	}
	return dir
}

// TestRow41LeftoverOfRoot: what root left keeps the user out until root's --fix.
func TestRow41LeftoverOfRoot(t *testing.T) {
	t.Parallel()
	dir := nobodysDir(t)
	lockFile, record := filepath.Join(dir, name+".flock"), filepath.Join(dir, name+".lock")
	putLegacy(t, dir)
	chmod(t, record, 0o600)
	chmod(t, write(t, lockFile, ""), 0o600)
	user := func(args ...string) *exec.Cmd { return asNobody(t, flocklock(args...)) }

	for _, flags := range [][]string{nil, {"--fix"}} {
		d := diagnosed(t, user(append([]string{"doctor", "--json", "--dir", dir}, flags...)...))
		left := d.of("leftover-of-root")
		if len(left) != 2 || left[0].Path != lockFile || left[1].Path != record || left[0].Fixed || !strings.HasPrefix(left[0].Mend, "sudo flocklock doctor --fix ") {
			t.Errorf("with %q: %+v", flags, d.Findings)
		}
		d.hasNot(t, "file-unusable") // it is told already
	}
	run := append(on(dir, "run"), "--", "true")
	same(t, "run before", finish(t, user(run...)).code, 66)

	d := diagnose(t, dir, "--fix") // by root
	for _, f := range d.of("leftover-of-root") {
		if !f.Fixed {
			t.Errorf("not mended: %+v", f)
		}
	}
	same(t, "mended", len(d.of("leftover-of-root")), 2)
	d.healthy(t)
	d.has(t, "directory-of-another", "note")
	same(t, "mode", modeOf(t, lockFile), os.FileMode(0o644))
	if info, err := os.Lstat(lockFile); err != nil || info.Sys().(*syscall.Stat_t).Uid != nobody {
		t.Errorf("the lock file is not the user's: %+v, %v", info.Sys(), err)
	}
	same(t, "files", files(t, dir), []string{name + ".flock"})
	diagnosed(t, user("doctor", "--json", "--dir", dir)).healthy(t)
	same(t, "run after", finish(t, user(run...)), result{})
}

// TestRow41NotLockFile: root's --fix shows nobody a file that the user of the
// directory has put in a lock file's place.
func TestRow41NotLockFile(t *testing.T) {
	t.Parallel()
	dir := nobodysDir(t)
	path := write(t, filepath.Join(dir, name+".flock"), "for root alone")
	chmod(t, path, 0o600)
	if f := diagnose(t, dir, "--fix").has(t, "leftover-of-root", "problem"); f.Fixed {
		t.Errorf("mended: %+v", f)
	}
	same(t, "mode", modeOf(t, path), os.FileMode(0o600))

	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(path, filepath.Join(dir, "another-name")); err != nil {
		t.Fatal(err)
	}
	if f := diagnose(t, dir, "--fix").has(t, "leftover-of-root", "problem"); f.Fixed {
		t.Errorf("mended: %+v", f)
	}
	same(t, "mode", modeOf(t, path), os.FileMode(0o600))
}

// TestRow41NotWritable: a directory of root's, in which a user can make nothing.
func TestRow41NotWritable(t *testing.T) {
	t.Parallel()
	dir := nobodysDir(t)
	if err := os.Chown(dir, 0, 0); err != nil {
		t.Fatal(err)
	}
	chmod(t, dir, 0o755)
	user := asNobody(t, flocklock("doctor", "--fix", "--json", "--dir", dir))
	d := diagnosed(t, user)
	if f := d.has(t, "directory-not-writable", "problem"); !strings.Contains(f.Mend, "sudo chown -R ") {
		t.Errorf("finding: %+v", f)
	}
	d.has(t, "directory-of-another", "note")

	chmod(t, dir, 0o700)
	diagnosed(t, asNobody(t, flocklock("doctor", "--json", "--dir", dir))).has(t, "cannot-look", "problem")
}

// TestRow41CannotMake: the directory is not there and cannot be made.
func TestRow41CannotMake(t *testing.T) {
	t.Parallel()
	above := t.TempDir()
	dir := filepath.Join(above, "locks")
	diagnose(t, dir).hasNot(t, "directory-not-writable")
	cmd := flocklock("doctor", "--json", "--dir", dir)
	if os.Geteuid() == 0 {
		above = nobodysDir(t)
		dir = filepath.Join(above, "locks")
		cmd = asNobody(t, flocklock("doctor", "--json", "--dir", dir))
		if err := os.Chown(above, 0, 0); err != nil {
			t.Fatal(err)
		}
	}
	chmod(t, above, 0o555)
	if f := diagnosed(t, cmd).has(t, "directory-not-writable", "problem"); f.Path != dir || !strings.Contains(f.What, "mkdir "+dir) || !strings.HasPrefix(f.Mend, "sudo install -d ") {
		t.Errorf("finding: %+v", f)
	}
}

func TestDoctorUnreadable(t *testing.T) {
	t.Parallel()
	dir, own := t.TempDir(), os.Geteuid() != 0 // root can read all
	if !own {
		dir = nobodysDir(t)
	}
	path := write(t, filepath.Join(dir, name+".flock"), "")
	if err := os.Lchown(path, nobody, nobody); err != nil && !own {
		t.Fatal(err)
	}
	chmod(t, path, 0)
	doctor := func(flags ...string) diagnosis {
		t.Helper()
		cmd := flocklock(append([]string{"doctor", "--json", "--dir", dir}, flags...)...)
		if !own {
			cmd = asNobody(t, cmd)
		}
		return diagnosed(t, cmd)
	}
	if f := doctor().has(t, "file-unreadable", "problem"); f.Fixed || f.Path != path || !strings.HasPrefix(f.Mend, "flocklock doctor --fix ") {
		t.Errorf("finding: %+v", f)
	}
	if f := doctor("--fix").has(t, "file-unreadable", "problem"); !f.Fixed {
		t.Errorf("not mended: %+v", f)
	}
	doctor().healthy(t)
}

func TestDoctorWritable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	chmod(t, dir, 0o707)
	if f := diagnose(t, dir).has(t, "directory-writable", "problem"); f.Fixed || !strings.HasPrefix(f.Mend, "chmod o-w ") {
		t.Errorf("finding: %+v", f)
	}
	same(t, "mode", modeOf(t, dir).Perm(), os.FileMode(0o707))
	if f := diagnose(t, dir, "--fix").has(t, "directory-writable", "problem"); !f.Fixed {
		t.Errorf("not mended: %+v", f)
	}
	same(t, "mode", modeOf(t, dir).Perm(), os.FileMode(0o705))
	diagnose(t, dir).hasNot(t, "directory-writable")

	chmod(t, dir, 0o770)
	if f := diagnose(t, dir, "--fix").has(t, "directory-writable", "note"); f.Fixed {
		t.Errorf("finding: %+v", f)
	}
	chmod(t, dir, 0o777|os.ModeSticky)
	diagnose(t, dir).hasNot(t, "directory-writable")

	if os.Geteuid() != 0 {
		t.Skip("only root gives a file away")
	}
	chmod(t, dir, 0o777)
	if err := os.Chown(write(t, filepath.Join(dir, name+".flock"), ""), nobody, nobody); err != nil {
		t.Skip("this root may not give a file away: ", err)
	}
	if f := diagnose(t, dir, "--fix").has(t, "directory-writable", "problem"); f.Fixed || !strings.HasPrefix(f.Mend, "chmod +t ") {
		t.Errorf("with a file of another user: %+v", f)
	}
}

func TestRow23DoctorStopped(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	p := hold(t, dir)
	p.signal(syscall.SIGSTOP)
	until(t, "it is stopped", func() bool { return status(t, dir)["standing"] == "stopped" })
	if f := diagnose(t, dir, "--fix").has(t, "holder-stopped", "problem"); f.Mend != fmt.Sprint("kill -CONT ", p.cmd.Process.Pid) {
		t.Errorf("finding: %+v", f)
	}
	p.signal(syscall.SIGCONT)
	until(t, "it goes on", func() bool { return status(t, dir)["standing"] == "verified" })
	diagnose(t, dir).hasNot(t, "holder-stopped")
}

func TestRow29DoctorInherited(t *testing.T) {
	t.Parallel()
	inherits(t)
	dir := t.TempDir()
	p := hold(t, dir)
	diagnose(t, dir).hasNot(t, "holder-unknown", "holder-inherited") // COMMAND is meant to hold too
	p.kill()
	p.ping()
	before := files(t, dir)
	if f := diagnose(t, dir, "--fix").has(t, "holder-unknown", "problem"); !strings.HasSuffix(f.Path, name+".flock") || f.Fixed {
		t.Errorf("finding: %+v", f)
	}
	same(t, "files", files(t, dir), before)
	p.ping()
	same(t, "state", state(t, dir), "held")
}

// TestRow12FIFO: nothing that stands in a file's place makes the doctor wait.
func TestRow12FIFO(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo := func(path string) string {
		t.Helper()
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Skip("no FIFO can be made: ", err)
		}
		return path
	}
	lockFile := fifo(filepath.Join(dir, name+".flock"))
	fifo(filepath.Join(dir, "irc-"+hashOf("another")+".lock"))
	d := diagnose(t, dir)
	if f := d.has(t, "file-unusable", "problem"); f.Path != lockFile || !strings.Contains(f.What, "FIFO") {
		t.Errorf("finding: %+v", f)
	}
	d.hasNot(t, "unfinished")
	if f := diagnose(t, dir, "--fix").has(t, "leftovers", "note"); !f.Fixed || !strings.Contains(f.What, "FIFO") {
		t.Errorf("in a record's place: %+v", f)
	}
	diagnose(t, fifo(filepath.Join(t.TempDir(), "directory"))).has(t, "cannot-look", "problem")
}

// TestDoctorEscapes: a path cannot command the terminal, nor the shell to which
// advice is copied.
func TestDoctorEscapes(t *testing.T) {
	t.Parallel()
	dir := mkdir(t, filepath.Join(t.TempDir(), "a b'c"))
	putLegacy(t, dir)
	if r := finish(t, flocklock("doctor", "--dir", dir)); !strings.Contains(r.stdout, `--dir '`+filepath.Dir(dir)+`/a b'\''c'`) {
		t.Errorf("not to be copied: %s", r.stdout)
	}
	dir = mkdir(t, filepath.Join(t.TempDir(), "\x1b[31m"))
	putLegacy(t, dir)
	if r := finish(t, flocklock("doctor", "--dir", dir)); strings.Contains(r.stdout, "\x1b") || !strings.Contains(r.stdout, `\x1b[31m`) {
		t.Errorf("in words: %q", r.stdout)
	}
	same(t, "as JSON", diagnose(t, dir).Directory, dir)
}

// TestRow31DoctorAbove: everybody may move the directory away.
func TestRow31DoctorAbove(t *testing.T) {
	t.Parallel()
	above := t.TempDir()
	dir := mkdir(t, filepath.Join(above, "between", "locks"))
	diagnose(t, dir).hasNot(t, "directory-above-writable")
	chmod(t, above, 0o707)
	if f := diagnose(t, dir).has(t, "directory-above-writable", "note"); f.Path != above || !strings.HasPrefix(f.Mend, "chmod o-w ") {
		t.Errorf("finding: %+v", f)
	}
	chmod(t, above, 0o707|os.ModeSticky)
	diagnose(t, dir).hasNot(t, "directory-above-writable")
}

// In a directory that others may write to, the doctor makes nothing in which they
// could have it write elsewhere.
func TestDoctorInWritableDirectory(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	chmod(t, dir, 0o777)
	done, stopped := make(chan struct{}), make(chan struct{})
	go func() { // who swaps what the doctor makes for a link
		defer close(stopped)
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
			}
			made, _ := filepath.Glob(filepath.Join(dir, ".flocklock-doctor-*"))
			for _, path := range made {
				if os.Rename(path, filepath.Join(dir, fmt.Sprint("moved", n))) == nil {
					os.Symlink(outside, path)
				}
			}
		}
	}()
	for range 5 {
		d := diagnose(t, dir)
		d.has(t, "locks-not-tried", "note")
		d.has(t, "directory-writable", "problem")
	}
	close(done)
	<-stopped
	same(t, "files outside", files(t, outside), []string{})
	same(t, "files", files(t, dir), []string{})

	// Nor does it change the mode of what they could have put there.
	lockFile := write(t, filepath.Join(dir, name+".flock"), "")
	chmod(t, lockFile, 0)
	user := func() *exec.Cmd { return asNobody(t, flocklock("doctor", "--json", "--fix", "--dir", dir)) }
	if err := errors.Join(os.Chown(dir, nobody, nobody), os.Chown(lockFile, nobody, nobody)); err != nil {
		t.Skip("only root can give files away: ", err)
	}
	chmod(t, filepath.Dir(dir), 0o755)
	for _, mode := range []os.FileMode{0o777 | os.ModeSticky, 0o775} {
		chmod(t, dir, mode)
		if f := diagnosed(t, user()).has(t, "file-unreadable", "problem"); f.Fixed || !strings.Contains(f.What, "others may put another file in its place") {
			t.Errorf("mode %v: %+v", mode, f)
		}
	}
	chmod(t, dir, 0o755)
	if f := diagnosed(t, user()).of("file-unreadable"); len(f) != 1 || !f[0].Fixed {
		t.Errorf("mode 755: %+v", f)
	}
}
