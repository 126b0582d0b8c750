package flocklock_test

// One lock directory in several namespaces: two containers that share it, time
// that counts from another boot, users that are mapped. Numbers are rows of the
// catalogue of failures of the old lock.

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/flocklock/flocklock"
	"golang.org/x/sys/unix"
)

func init() { workers["container"] = container }

// container is the first process of a container: it has a /proc of its own and
// the host's lock directory, args[0], at its own path, args[1]. The rest says
// what its one child does.
func container(args []string) {
	for _, err := range []error{
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("proc", "/proc", "proc", 0, ""),
		unix.Mount(args[0], args[1], "", unix.MS_BIND, ""),
	} {
		if err != nil {
			fmt.Println("cannot mount:", err)
			return
		}
	}
	child := exec.Command(executable(), args[1], scope, secret)
	child.Env = append(os.Environ(), workerEnv+"="+args[2])
	child.Stdin, child.Stdout, child.Stderr = os.Stdin, os.Stdout, os.Stderr
	if err := child.Run(); err != nil {
		fmt.Println(err)
	}
}

// contain starts a worker in a container with mount, PID, UTS and IPC namespaces
// of its own, and for who is not root a user namespace.
func contain(t *testing.T, dir flocklock.Dir, mode string) (p *proc, said string) {
	t.Helper()
	p = spawn(t, "container", []string{string(dir), t.TempDir(), mode}, func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
		namespaces(unix.CLONE_NEWPID | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC)(cmd)
	})
	if said = p.line(); strings.HasPrefix(said, "cannot mount") {
		t.Skip("this machine does not let us make a container: ", said)
	}
	return p, said
}

// 19, 20: two containers with one lock directory. Each is told of the other's
// holder what can be known, none ends it, and when a whole container is killed
// its lock goes at once to who waits in the other.
func TestRow19Row20TwoContainers(t *testing.T) {
	dir := newDir(t)
	first, said := contain(t, dir, "hold")
	if said != "held" {
		t.Fatal(said)
	}
	for what, from := range map[string]func(mode string) string{
		"another container": func(mode string) string { _, said := contain(t, dir, mode); return said },
		"the host": func(mode string) string {
			return spawn(t, mode, []string{string(dir), scope, secret}).line()
		},
	} {
		if got := from("try"); !strings.HasPrefix(got, "refused elsewhere") || !contains(got, "not checked", "other PID namespace") {
			t.Errorf("%s: %s", what, got)
		}
		if got := from("take-over"); !contains(got, "refused elsewhere", "cannot be reached from here; end it where it runs") {
			t.Errorf("a take-over by %s: %s", what, got)
		}
	}
	next, said := contain(t, dir, "wait")
	if said != "waiting" {
		t.Fatal(said)
	}
	first.cmd.Process.Kill() // its first process, with which the kernel ends the rest
	next.expect("held")
	if refused := mustRefuse(t, dir, flocklock.StandingElsewhere); refused.Holder.Record.PIDNamespace == "" {
		t.Errorf("the record: %+v", refused.Holder.Record)
	}
	if got := next.finish(); got != "released <nil>" {
		t.Error(got)
	}
	mustSettle(t, dir)
}

// younger makes a worker's time count from a boot of just now, or says why it
// cannot.
func younger(t *testing.T) func(*exec.Cmd) {
	t.Helper()
	unshare, err := exec.LookPath("unshare")
	if err != nil {
		t.Skip("no unshare(1): ", err)
	}
	var up unix.Sysinfo_t
	if err := unix.Sysinfo(&up); err != nil {
		t.Fatal(err)
	}
	args := []string{"unshare", "--time", "--boottime", fmt.Sprint(2 - up.Uptime), "--fork", "--kill-child"}
	if out, err := exec.Command(unshare, append(args[1:], "true")...).CombinedOutput(); err != nil {
		t.Skipf("this machine does not let us make a time namespace: %v: %s", err, out)
	}
	return func(cmd *exec.Cmd) {
		cmd.Path, cmd.Args = unshare, append(append(args, executable()), cmd.Args[1:]...)
		cmd.Stderr = nil // unshare(1) complains when its child is killed
	}
}

// 18: holder and starter count time from different boots, and know each other's
// process all the same.
func TestRow18HolderInTimeNamespace(t *testing.T) {
	young := younger(t)
	plain := func(*exec.Cmd) {}
	for what, who := range map[string][2]func(*exec.Cmd){
		"the holder's": {young, plain}, "the starter's": {plain, young},
	} {
		dir := newDir(t)
		worker := func(mode string, change func(*exec.Cmd)) *proc {
			return spawn(t, mode, []string{string(dir), scope, secret}, change)
		}
		p := worker("deaf", who[0])
		p.expect("held")
		if got := worker("try", who[1]).line(); !strings.HasPrefix(got, "refused verified") {
			t.Errorf("%s time: %s", what, got)
		}
		next := worker("take-over", who[1])
		next.expect("held")
		if got := p.finish(); got != "" {
			t.Errorf("%s time: the holder went on: %s", what, got)
		}
		next.kill()
		until(t, "the lock is free", func() bool { s, err := dir.Inspect(scope, secret); return err == nil && s.State == flocklock.Free })
		mustSettle(t, dir)
	}
}

// 21: a starter in a user namespace, where the holder's user is nobody, and may
// even look like the starter's own. It is refused, and ends nobody.
func TestRow21UserNamespace(t *testing.T) {
	dir := shared(t)
	p := spawn(t, "deaf", []string{string(dir), scope, secret})
	p.expect("held")
	for inside, why := range map[int]string{
		0:     "another user's process",
		65534: "not seen to hold", // it is how a user shows that is not mapped
	} {
		starter := func(mode string) *proc {
			return spawn(t, mode, []string{string(dir), scope, secret}, mapped(t, inside))
		}
		if got := starter("try").line(); !strings.HasPrefix(got, "refused verified") {
			t.Errorf("as %d: %s", inside, got)
		}
		if got := starter("take-over").line(); !strings.HasPrefix(got, "refused verified") || !contains(got, "not taken over", why) {
			t.Errorf("a take-over as %d: %s", inside, got)
		}
	}
	p.tell("are you there?")
	p.expect("here")
}

// 22: root of a user namespace may not read what is another's outside.
func TestRow22UserNamespace(t *testing.T) {
	dir := shared(t)
	put(t, dir, `{"pid":1}`)
	if err := os.Chmod(recordPath(dir), 0); err != nil {
		t.Fatal(err)
	}
	try := func() string { return spawn(t, "try", []string{string(dir), scope, secret}, mapped(t, 0)).line() }
	if got := try(); !strings.HasPrefix(got, "error: ") || !contains(got, recordPath(dir), "permission denied") {
		t.Errorf("the record: %s", got)
	}
	for _, err := range []error{os.Remove(recordPath(dir)), os.Chown(lockPath(dir), 0, 0), os.Chmod(lockPath(dir), 0)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if got := try(); !strings.HasPrefix(got, "error: ") || !contains(got, lockPath(dir), "permission denied") {
		t.Errorf("the lock file: %s", got)
	}
}

// mapped makes a worker of the user nobody one of a user namespace, in which it
// has another number.
func mapped(t *testing.T, inside int) func(*exec.Cmd) {
	return func(cmd *exec.Cmd) {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
		nobody(t)(cmd)
		cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: inside, HostID: 65534, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: inside, HostID: 65534, Size: 1}}
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: uint32(inside), Gid: uint32(inside), NoSetGroups: true}
	}
}
