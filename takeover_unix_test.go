//go:build unix

package flocklock_test

import (
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/flocklock/flocklock"
)

func init() {
	// drain takes a lock, gives it back when it is asked to end, and lives on.
	workers["drain"] = func(args []string) {
		asked := make(chan os.Signal, 1)
		signal.Notify(asked, syscall.SIGTERM)
		l, err := flocklock.Dir(args[0]).TryAcquire(args[1], args[2])
		if err != nil {
			fmt.Println(describe(err))
			return
		}
		fmt.Println("held")
		<-asked
		fmt.Println("released", l.Release())
		waitForParent()
		fmt.Println("drained")
	}
}

// 09, 35: who has given the lock back, and lives on, is not killed for it,
// whoever has got the lock by then.
func TestRow09Row35WhoHasReleasedIsSpared(t *testing.T) {
	dir := newDir(t)
	p := spawn(t, "drain", []string{string(dir), scope, secret})
	p.expect("held")
	var line []*proc
	for range 4 {
		w := spawn(t, "wait", []string{string(dir), scope, secret})
		w.expect("waiting")
		line = append(line, w)
	}
	l, err := takeOver(t, dir, flocklock.TakeOverOptions{Grace: 200 * time.Millisecond})
	p.expect("released <nil>")
	if got := p.finish(); got != "drained" {
		t.Errorf("who has given the lock back says %q", got)
	}
	if l != nil {
		l.Release()
		return
	}
	if why := describe(err); !slices.ContainsFunc(line, func(w *proc) bool { return tellsPID(why, w.pid()) }) {
		t.Errorf("err = %v, which names none of those that waited", err)
	}
}

func tellsPID(text string, pid int) bool { return strings.Contains(text, fmt.Sprintf("(PID %d)", pid)) }

// inherited is a process whose child has inherited the lock.
func inherited(t *testing.T, dir flocklock.Dir) *proc {
	t.Helper()
	p := spawn(t, "inherit", []string{string(dir), scope, secret, "give"})
	said := []string{p.line(), p.line()} // each says one
	slices.Sort(said)
	if !slices.Equal(said, []string{"held", "ready"}) {
		t.Fatalf("they say %q", said)
	}
	return p
}

// 32: who inherited the lock is ended with the one it has it from.
func TestRow32TakeOverEndsHeirs(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("this system does not tell who inherited a lock")
	}
	dir := newDir(t)
	p := inherited(t, dir)
	before, err := dir.Holders(name)
	if len(before) != 2 {
		t.Fatalf("holders: %v, %v", before, err)
	}
	l := mustTakeOver(t, dir, flocklock.TakeOverOptions{Grace: time.Millisecond})
	if got := l.Record().TakenOverFrom; got != p.pid() {
		t.Errorf("taken over from %d", got)
	}
	if after, _ := dir.Holders(name); len(after) != 1 || after[0].PID != os.Getpid() {
		t.Errorf("holders: %v", after)
	}
}

// 32, 35: where the record's process has ended, an heir is named and not ended.
func TestRow35HeirAloneIsSpared(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("this system does not tell who inherited a lock")
	}
	dir := newDir(t)
	p := inherited(t, dir)
	p.cmd.Process.Kill()
	until(t, "the heir holds alone", func() bool { found, _ := dir.Holders(name); return len(found) == 1 })
	heir, _ := dir.Holders(name)
	_, err := takeOver(t, dir, flocklock.TakeOverOptions{Grace: time.Millisecond})
	if why := describe(err); !tellsPID(why, heir[0].PID) {
		t.Errorf("err = %v, which does not name %v", err, heir)
	}
	if after, _ := dir.Holders(name); len(after) != 1 || after[0].PID != heir[0].PID {
		t.Errorf("holders: %v, before %v", after, heir)
	}
}
