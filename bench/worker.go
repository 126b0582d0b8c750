// What a worker does. It says its state by lines on its standard output, does
// what the lines on its standard input tell it, and ends when that does.

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

const unmeasuredWord = "unmeasured"

// workers is what a worker does by its mode. What it returns it says.
var workers = map[string]func(w *worker, args []string) error{
	"wait":   waitForLock,
	"cancel": cancelWaits,
	"many":   holdMany,
	"crowd":  waitAsCrowd,
}

// A worker is this process, which is told what to do.
type worker struct{ commands chan []string }

// work makes this process a worker.
func work(mode string, args []string) {
	do, known := workers[mode]
	if !known {
		fmt.Println("no such worker:", mode)
		return
	}
	w := &worker{commands: make(chan []string, 16)}
	go w.read()
	fmt.Println("ready")
	err := do(w, args)
	var reason unmeasured
	if errors.As(err, &reason) {
		fmt.Println(unmeasuredWord, reason)
	} else if err != nil {
		fmt.Println("failed:", strings.ReplaceAll(err.Error(), "\n", "; "))
	}
}

// read hands on the commands. It ends the process when there are no more: the
// worker may be waiting for a lock for ever.
func (w *worker) read() {
	for scan := bufio.NewScanner(os.Stdin); scan.Scan(); {
		w.commands <- strings.Fields(scan.Text())
	}
	os.Exit(0)
}

// A turner is a worker that waits for a lock by one locker.
type turner struct {
	locker  locker
	dir     string
	release func() error // nil: it does not hold
}

// waitForLock takes turns at a lock as it is told to.
func waitForLock(w *worker, args []string) error {
	t := turner{dir: args[0]}
	for _, l := range lockers {
		if l.name == args[1] {
			t.locker = l
		}
	}
	for command := range w.commands {
		if err := t.obey(command); err != nil {
			return err
		}
	}
	return nil
}

func (t *turner) obey(command []string) error {
	switch command[0] {
	case "hold":
		if err := t.acquire(); err != nil {
			return err
		}
		fmt.Println("held")
		return nil
	case "wait":
		return t.wait()
	case "release":
		return t.giveBack()
	case "turn":
		err := t.wait()
		return errors.Join(err, t.release())
	case "turns":
		return t.turns(command[1], command[2])
	default:
		return fmt.Errorf("told to %s", command[0])
	}
}

func (t *turner) acquire() (err error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	t.release, err = t.locker.acquire(ctx, t.dir)
	return err
}

// wait acquires, and says at what time it had the lock and what CPU time the
// wait took.
func (t *turner) wait() error {
	fmt.Println("waiting")
	before, err := cpuTime()
	if err != nil {
		return err
	}
	if err := t.acquire(); err != nil {
		t.release = func() error { return nil }
		return err
	}
	at := now()
	after, err := cpuTime()
	fmt.Println("got", at, int64(after-before))
	return err
}

// giveBack says at what time it was about to release.
func (t *turner) giveBack() error {
	at := now()
	if err := t.release(); err != nil {
		return err
	}
	fmt.Println("released", at)
	return nil
}

// hold is how long the turns of a competition are.
const hold = 2 * time.Millisecond

// turns takes the lock over and over from one time to another, and says how
// often it got it.
func (t *turner) turns(from, to string) error {
	start, err := strconv.ParseInt(from, 10, 64)
	if err != nil {
		return err
	}
	end, err := strconv.ParseInt(to, 10, 64)
	if err != nil {
		return err
	}
	time.Sleep(time.Duration(start - now() - int64(2*time.Millisecond)))
	for now() < start { // so that all begin at once
	}
	n := 0
	for {
		if err := t.acquire(); err != nil {
			return err
		}
		late := now() >= end
		if !late {
			n++
			time.Sleep(hold)
		}
		if err := t.release(); err != nil {
			return err
		}
		if late {
			break
		}
	}
	fmt.Println("turns", n)
	return nil
}
