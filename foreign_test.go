package flocklock_test

// Others who lock the same file, each in its own way, exclude us and are
// excluded by us: flock(1), Python's fcntl.flock, go-internal/lockedfile, and
// gofrs/flock used bare.

import (
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/flocklock/flocklock"
	"github.com/gofrs/flock"
	"github.com/rogpeppe/go-internal/lockedfile"
)

// A foreigner is another way to lock a file.
type foreigner struct {
	needs string // a program; "": none

	// hold is a command that locks a file, waiting for it, says "held", and
	// keeps it until its standard input ends.
	hold []string

	// try is one that says "refused" where the file is locked, and "held" where
	// it is not; nil where there is no such way.
	try []string
}

const pythonFlock = `
import fcntl, sys
file = open(sys.argv[2], "a")
try:
    fcntl.flock(file, fcntl.LOCK_EX | (fcntl.LOCK_NB if sys.argv[1] == "try" else 0))
except BlockingIOError:
    print("refused", flush=True)
    sys.exit()
print("held", flush=True)
if sys.argv[1] == "hold":
    sys.stdin.read()
`

// FILE stands for the lock file.
var foreigners = map[string]foreigner{
	"flock(1)": {
		needs: "flock",
		hold:  []string{"flock", "FILE", "sh", "-c", "echo held; exec cat"},
		try:   []string{"sh", "-c", `if flock -n "$0" true; then echo held; else echo refused; fi`, "FILE"},
	},
	"Python fcntl.flock": {
		needs: "python3",
		hold:  []string{"python3", "-c", pythonFlock, "hold", "FILE"},
		try:   []string{"python3", "-c", pythonFlock, "try", "FILE"},
	},
	"gofrs/flock": {
		hold: []string{"worker:gofrs", "hold", "FILE"},
		try:  []string{"worker:gofrs", "try", "FILE"},
	},
	"go-internal/lockedfile": {hold: []string{"worker:lockedfile", "FILE"}},
}

func init() {
	workers["gofrs"] = gofrsWorker
	workers["lockedfile"] = lockedfileWorker
}

// gofrsWorker locks a file with gofrs/flock and nothing else.
func gofrsWorker(args []string) {
	file := flock.New(args[1])
	locked, err := true, error(nil)
	if args[0] == "try" {
		locked, err = file.TryLock()
	} else {
		err = file.Lock()
	}
	switch {
	case err != nil:
		fmt.Println(err)
	case !locked:
		fmt.Println("refused")
	default:
		fmt.Println("held")
		if args[0] == "hold" {
			waitForParent()
		}
	}
}

// lockedfileWorker locks a file as the go command locks its own.
func lockedfileWorker(args []string) {
	unlock, err := lockedfile.MutexAt(args[0]).Lock()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("held")
	waitForParent()
	unlock()
}

// foreign starts a foreigner's command.
func foreign(t *testing.T, words []string, file string) *proc {
	t.Helper()
	words = append([]string{}, words...)
	for i := range words {
		if words[i] == "FILE" {
			words[i] = file
		}
	}
	if mode, ok := strings.CutPrefix(words[0], "worker:"); ok {
		return spawn(t, mode, words[1:])
	}
	path := program(t, words[0])
	return spawn(t, "", nil, func(cmd *exec.Cmd) { cmd.Path, cmd.Args = path, words })
}

// program finds a program, or skips the test.
func program(t *testing.T, name string) string {
	t.Helper()
	if name == "python3" {
		return python3(t)
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("this machine has no %s", name)
	}
	return path
}

// python3 finds the interpreter itself, which may be behind a script.
func python3(t *testing.T) string {
	t.Helper()
	path, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("this machine has no python3")
	}
	text, err := exec.Command(path, "-I", "-S", "-c", "import sys; print(sys.executable)").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}

// eachForeigner runs a test for every foreigner that this machine has.
func eachForeigner(t *testing.T, test func(t *testing.T, f foreigner)) {
	for name, f := range foreigners {
		t.Run(name, func(t *testing.T) {
			switch runtime.GOOS {
			case "windows":
				if f.needs != "" {
					t.Skip("Windows has no flock(2)")
				}
			case "solaris", "aix":
				t.Skip("this system has no flock(2)")
			}
			if f.needs != "" {
				program(t, f.needs)
			}
			test(t, f)
		})
	}
}

// While a foreigner holds the lock file, we are refused, and wait; when it lets
// go, by itself or killed, the lock is ours.
func TestForeignHolder(t *testing.T) {
	ends := map[string]func(*proc){
		"lets go": func(p *proc) { p.finish() },
		"killed":  (*proc).kill,
	}
	eachForeigner(t, func(t *testing.T, f foreigner) {
		for how, end := range ends {
			t.Run(how, func(t *testing.T) {
				dir := newDir(t)
				holder := foreign(t, f.hold, lockPath(dir))
				holder.expect("held")
				if h := mustRefuse(t, dir, flocklock.StandingUnknown).Holder; h.Record != nil {
					t.Errorf("a foreigner left no record, but: %+v", h.Record)
				}
				waiter := wait(t, dir)
				settleWaiting(t, dir, 1)
				end(holder)
				l := waiter.lock()
				if err := errors.Join(l.RecordErr(), l.Check(), l.Release()); err != nil {
					t.Error(err)
				}
			})
		}
	})
}

// A record that was left does not make its owner the holder, when a foreigner
// holds the file.
func TestForeignHolderBesideALeftover(t *testing.T) {
	eachForeigner(t, func(t *testing.T, f foreigner) {
		dir := newDir(t)
		dead := spawn(t, "hold", []string{string(dir), scope, secret})
		dead.expect("held")
		dead.kill()
		holder := foreign(t, f.hold, lockPath(dir))
		holder.expect("held")
		refused := mustRefuse(t, dir, flocklock.StandingUnknown)
		if !strings.Contains(refused.Error(), "which has ended") {
			t.Error(refused)
		}
		holder.kill()
		mustSettle(t, dir)
	})
}

// While we hold it, a foreigner is refused, or waits until we release or are
// killed.
func TestForeignersExcluded(t *testing.T) {
	ends := map[string]func(*proc){
		"release": func(p *proc) { p.finish() },
		"killed":  (*proc).kill,
	}
	eachForeigner(t, func(t *testing.T, f foreigner) {
		for how, end := range ends {
			t.Run(how, func(t *testing.T) {
				dir := newDir(t)
				holder := spawn(t, "hold", []string{string(dir), scope, secret})
				holder.expect("held")
				if f.try != nil {
					foreign(t, f.try, lockPath(dir)).expect("refused")
				}
				waiter := foreign(t, f.hold, lockPath(dir))
				if runtime.GOOS == "linux" { // elsewhere nothing tells
					until(t, "the foreigner waits", func() bool { return blocked(t, waiter.pid()) })
				}
				end(holder)
				waiter.expect("held")
				mustRefuse(t, dir, flocklock.StandingUnknown)
				waiter.finish()
				if f.try != nil {
					foreign(t, f.try, lockPath(dir)).expect("held")
				}
			})
		}
	})
}

// blocked reports whether a process waits for a lock of flock(2).
func blocked(t *testing.T, pid int) bool {
	for line := range strings.Lines(readFile(t, "/proc/locks")) {
		// 1: -> FLOCK  ADVISORY  WRITE 4711 08:02:393217 0 EOF
		words := strings.Fields(line)
		if len(words) > 5 && words[1] == "->" && words[2] == "FLOCK" && words[5] == strconv.Itoa(pid) {
			return true
		}
	}
	return false
}
