// What waiting costs, how it ends early, and who gets the lock next.

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/flocklock/flocklock"
)

func cancellation() measurement {
	return measurement{
		name:   "cancel a wait",
		rows:   []string{"flocklock"},
		limits: []limit{{"flocklock", "", p99, below, 0.005}},
		measure: func(s *setting, _ []string) []row {
			r := row{name: "flocklock", unit: seconds}
			r.err = measureCancels(s, &r)
			return []row{r}
		},
	}
}

func measureCancels(s *setting, r *row) error {
	var c crew
	defer c.dismiss()
	h, err := startHolder(&c, s.dir)
	if err != nil {
		return err
	}
	p, err := c.start("cancel", string(h.dir), strconv.Itoa(s.cancels))
	if err != nil {
		return err
	}
	for range s.cancels {
		var ns int64
		if err := p.expect("returned", &ns); err != nil {
			return err
		}
		r.values = append(r.values, time.Duration(ns).Seconds())
	}
	var left []string
	for _, q := range expectFootprint(p, s.cancels) {
		if q.err == nil && q.name != memoryEach { // noise, of so few
			left = append(left, q.name+" "+q.unit(q.values[0]))
		}
	}
	r.note = "leaves " + strings.Join(left, ", ")
	return nil
}

// cancelWaits is a worker that gives up waiting for a held lock, again and
// again, and says how long each return took, and what was left of it all.
func cancelWaits(_ *worker, args []string) error {
	dir := flocklock.Dir(args[0])
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	before := takeFootprint()
	for range n {
		took, err := cancelOnce(dir)
		if err != nil {
			return err
		}
		fmt.Println("returned", took.Nanoseconds())
	}
	takeFootprint().tell(before)
	return nil
}

func cancelOnce(dir flocklock.Dir) (time.Duration, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	type end struct {
		at  time.Time
		err error
	}
	ended := make(chan end, 1)
	go func() { // ends when ctx does
		_, err := dir.Acquire(ctx, scope, secret)
		ended <- end{time.Now(), err}
	}()
	time.Sleep(2*time.Millisecond + rand.N(8*time.Millisecond))
	start := time.Now()
	cancel()
	e := <-ended
	if !errors.Is(e.err, context.Canceled) {
		return 0, fmt.Errorf("a wait that was cancelled ended with %v", e.err)
	}
	return e.at.Sub(start), nil
}

// processorTime is what a long wait costs while nothing happens.
func processorTime(a amounts) measurement {
	return measurement{
		name:    fmt.Sprintf("CPU time of a wait of %v", a.wait),
		rows:    []string{"flocklock", "flock(2)", "gofrs, 10 ms"},
		limits:  []limit{{"flocklock", "", median, below, 0.005}},
		measure: measureProcessorTime,
	}
}

// measureProcessorTime lets all wait at once, each for its own lock.
func measureProcessorTime(s *setting, lockers []string) []row {
	var c crew
	defer c.dismiss()
	rows := make([]row, len(lockers))
	relays := make([]*relay, len(lockers))
	for i, name := range lockers {
		rows[i] = row{name: name, unit: seconds}
		relays[i], rows[i].err = newRelay(&c, s.dir, name)
		if rows[i].err == nil {
			rows[i].err = relays[i].wait()
		}
	}
	time.Sleep(s.wait)
	for i, r := range relays {
		if rows[i].err != nil {
			continue
		}
		var cpu int64
		rows[i].err = r.holder.ask("release", "released")
		if rows[i].err == nil {
			_, cpu, rows[i].err = r.got()
			rows[i].values = []float64{time.Duration(cpu).Seconds()}
		}
	}
	return rows
}

const competitors = 8

func fairness(a amounts) measurement {
	return measurement{
		name:   fmt.Sprintf("fewest÷most turns of %d in %v", competitors, a.competition),
		rows:   []string{"flocklock", "flock(2)"},
		limits: []limit{{"flock(2)", "flocklock", median, atLeast, 0.5}},
		measure: func(s *setting, lockers []string) []row {
			var rows []row
			for _, name := range lockers {
				r := row{name: name, unit: fraction}
				r.err = compete(s, &r)
				rows = append(rows, r)
			}
			return rows
		},
	}
}

// compete lets processes take turns at a lock as fast as each can.
func compete(s *setting, r *row) error {
	var c crew
	defer c.dismiss()
	dir, err := os.MkdirTemp(s.dir, "compete")
	if err != nil {
		return err
	}
	for range competitors {
		if _, err := c.start("wait", dir, r.name); err != nil {
			return err
		}
	}
	start := now() + int64(50*time.Millisecond)
	for _, p := range c {
		if err := p.tell("turns", start, start+int64(s.competition)); err != nil {
			return err
		}
	}
	var turns []int
	for _, p := range c {
		var n int
		if err := p.expect("turns", &n); err != nil {
			return err
		}
		turns = append(turns, n)
	}
	least, most := slices.Min(turns), slices.Max(turns)
	if most == 0 {
		return errors.New("nobody had a turn")
	}
	r.values = []float64{float64(least) / float64(most)}
	r.note = fmt.Sprintf("%d to %d turns", least, most)
	return nil
}
