package flocklock_test

// Many processes, few locks, random kills: no two may ever hold one lock at one
// time.
//
// Every worker notes when it began and when it was about to end each hold, on
// the one monotonic clock of the system. The parent collects the notes, takes
// for the end of an interrupted hold the moment before it sent the kill, when
// the worker was alive and had not noted an end, and sweeps the intervals of
// each lock for an overlap.

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flocklock/flocklock"
)

const (
	stressEnv   = "FLOCKLOCK_STRESS" // how long, as time.ParseDuration reads it
	stressLocks = 3
)

// stressWorker takes and gives back locks until its parent has seen enough.
func stressWorker(args []string) {
	dir := flocklock.Dir(args[0])
	end := make(chan struct{})
	go func() { // ends with the process
		waitForParent()
		close(end)
	}()
	for {
		select {
		case <-end:
			return
		default:
		}
		lock := rand.N(stressLocks)
		l, err := dir.TryAcquire(scope, strconv.Itoa(lock))
		if errors.Is(err, flocklock.ErrHeld) {
			time.Sleep(rand.N(2 * time.Millisecond))
			continue
		}
		if err != nil {
			fmt.Println("error", err)
			return
		}
		fmt.Printf("begin %d %d.\n", lock, monotonic())
		if rand.N(4) == 0 {
			time.Sleep(rand.N(3 * time.Millisecond))
		}
		if err := l.Check(); err != nil {
			fmt.Println("error", err)
		}
		fmt.Printf("end %d %d.\n", lock, monotonic())
		if err := l.Release(); err != nil {
			fmt.Println("error", err)
		}
	}
}

// A hold is one interval of one worker.
type hold struct{ begin, end int64 }

// A line is one worker after the other, and what was seen of them.
type line struct {
	holds [stressLocks][]hold
	kills int
}

// live starts a worker and follows it to its end, which is a kill at a random
// moment, or stop. It says whether another is wanted.
func (l *line) live(t *testing.T, dir flocklock.Dir, stop <-chan struct{}) bool {
	p := spawn(t, "stress", []string{string(dir)})
	var kill <-chan time.Time    // none before the worker is at work
	var begun [stressLocks]int64 // zero: not held, as far as was noted
	var killedAt int64
	again := true
	for open := true; open; {
		select {
		case text, more := <-p.lines:
			if open = more; more {
				l.note(t, text, &begun)
			}
			if kill == nil && killedAt == 0 && again {
				kill = time.After(time.Duration(20+rand.N(400)) * time.Millisecond)
			}
		case <-kill:
			killedAt = monotonic()
			l.kills++
			p.cmd.Process.Kill()
		case <-stop:
			again, stop, kill = false, nil, nil
			p.stdin.Close()
		}
	}
	p.kill()
	for lock, at := range begun {
		if at != 0 && killedAt > at {
			l.holds[lock] = append(l.holds[lock], hold{at, killedAt})
		}
	}
	return again
}

// note takes down a worker's line. The kill may have cut it short.
func (l *line) note(t *testing.T, text string, begun *[stressLocks]int64) {
	var event string
	var lock int
	var at int64
	if strings.HasPrefix(text, "error") {
		t.Error(text)
	}
	if n, _ := fmt.Sscanf(text, "%s %d %d.", &event, &lock, &at); n != 3 || !strings.HasSuffix(text, ".") {
		return
	}
	if event == "begin" {
		begun[lock] = at
		return
	}
	l.holds[lock] = append(l.holds[lock], hold{begun[lock], at})
	begun[lock] = 0
}

func TestStress(t *testing.T) {
	const size = 8
	duration := 3 * time.Second
	if text := os.Getenv(stressEnv); text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			t.Fatalf("%s: %v", stressEnv, err)
		}
		duration = d
	}
	dir := newDir(t)
	stop := make(chan struct{})
	time.AfterFunc(duration, func() { close(stop) })
	var lines [size]line
	var wg sync.WaitGroup
	for i := range lines {
		wg.Go(func() {
			for lines[i].live(t, dir, stop) {
			}
		})
	}
	wg.Wait()
	var all [stressLocks][]hold
	kills := 0
	for _, line := range lines {
		kills += line.kills
		for lock := range all {
			all[lock] = append(all[lock], line.holds[lock]...)
		}
	}
	holds := 0
	for lock, intervals := range all {
		holds += len(intervals)
		slices.SortFunc(intervals, func(a, b hold) int { return int(a.begin - b.begin) })
		for i := 1; i < len(intervals); i++ {
			if before := intervals[i-1]; before.end > intervals[i].begin {
				t.Errorf("lock %d: one held it from %d to %d, another from %d", lock, before.begin, before.end, intervals[i].begin)
			}
		}
	}
	if holds == 0 || kills == 0 {
		t.Errorf("%d acquisitions and %d kills prove nothing", holds, kills)
	}
	t.Logf("%v: %d acquisitions, %d kills", duration, holds, kills)
	report, err := dir.Migrate(flocklock.MigrateOptions{})
	if err != nil {
		t.Error(err)
	}
	for _, m := range report {
		if m.Action != flocklock.Removed {
			t.Errorf("%+v", m)
		}
	}
	for lock := range stressLocks {
		l, err := dir.TryAcquire(scope, strconv.Itoa(lock))
		if err != nil {
			t.Error(err)
			continue
		}
		l.Release()
	}
	for _, file := range files(t, dir) {
		if !strings.HasSuffix(file, ".flock") {
			t.Errorf("left behind: %s", file)
		}
	}
}
