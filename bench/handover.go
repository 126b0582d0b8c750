// How long a lock takes from one process to another that waits for it.

package main

import (
	"errors"
	"math/rand/v2"
	"os"
	"time"
)

var handOverLimits = []limit{
	{"flock(2)", "flocklock", median, atMost, 1.3},
	{"flock(2)", "flocklock", p99, atMost, 2},
	{"flock + record", "flocklock", median, atMost, 1.3},
	{"flock + record", "flocklock", p99, atMost, 2},
}

func handOverByRelease() measurement {
	return measurement{
		name: "hand-over by release", rows: namesOf(lockers), limits: handOverLimits,
		measure: func(s *setting, rows []string) []row {
			return handOver(s.dir, rows, s.rounds, (*relay).release)
		},
	}
}

func handOverByKill() measurement {
	return measurement{
		name: "hand-over by kill", rows: namesOf(lockers), limits: handOverLimits,
		measure: func(s *setting, rows []string) []row {
			return handOver(s.dir, rows, s.kills, (*relay).kill)
		},
	}
}

// handOver lets each locker's processes hand over a lock this many times. The
// lockers take turns, in random order.
func handOver(dir string, lockers []string, rounds int, once func(*relay) (seconds float64, err error)) []row {
	var c crew
	defer c.dismiss()
	rows := make([]row, len(lockers))
	relays := make([]*relay, len(lockers))
	for i, name := range lockers {
		rows[i] = row{name: name, unit: seconds}
		relays[i], rows[i].err = newRelay(&c, dir, name)
	}
	for range rounds {
		for _, i := range rand.Perm(len(rows)) {
			if rows[i].err != nil {
				continue
			}
			took, err := once(relays[i])
			if rows[i].err = err; err == nil {
				rows[i].values = append(rows[i].values, took)
			}
		}
	}
	return rows
}

// A relay is two processes, one of which holds a lock that the other wants.
type relay struct {
	crew           *crew
	dir, locker    string
	holder, waiter *process
}

func newRelay(c *crew, parent, locker string) (*relay, error) {
	dir, err := os.MkdirTemp(parent, "relay")
	if err != nil {
		return nil, err
	}
	r := &relay{crew: c, dir: dir, locker: locker}
	if r.holder, err = r.start(); err != nil {
		return nil, err
	}
	if r.waiter, err = r.start(); err != nil {
		return nil, err
	}
	return r, r.holder.ask("hold", "held")
}

func (r *relay) start() (*process, error) { return r.crew.start("wait", r.dir, r.locker) }

// release is one hand-over, from just before the release to the acquire's
// return. The processes change places.
func (r *relay) release() (float64, error) {
	if err := r.wait(); err != nil {
		return 0, err
	}
	var before int64
	if err := r.holder.ask("release", "released", &before); err != nil {
		return 0, err
	}
	after, _, err := r.got()
	r.holder, r.waiter = r.waiter, r.holder
	return took(before, after, err)
}

// kill is one hand-over, from just before the holder is killed to the acquire's
// return. A new process comes to wait.
func (r *relay) kill() (float64, error) {
	if err := r.wait(); err != nil {
		return 0, err
	}
	before := now()
	if err := r.holder.kill(); err != nil {
		return 0, err
	}
	after, _, err := r.got()
	if err != nil {
		return 0, err
	}
	r.holder.reap()
	r.holder = r.waiter
	if r.waiter, err = r.start(); err != nil {
		return 0, err
	}
	return took(before, after, err)
}

// wait lets the waiter wait, for a time that is random so that who polls is
// met in any phase, and until the system says that it sleeps.
func (r *relay) wait() error {
	if err := r.waiter.ask("wait", "waiting"); err != nil {
		return err
	}
	time.Sleep(5*time.Millisecond + rand.N(50*time.Millisecond))
	return untilAsleep(r.waiter)
}

// got says when the waiter had the lock, and what CPU time its wait took.
func (r *relay) got() (at, cpu int64, err error) {
	err = r.waiter.expect("got", &at, &cpu)
	return at, cpu, err
}

func took(before, after int64, err error) (float64, error) {
	if err == nil && after < before {
		err = errors.New("two held at one time")
	}
	return time.Duration(after - before).Seconds(), err
}

// untilAsleep returns when a process runs on no processor, or after a while.
func untilAsleep(p *process) error {
	for range 1000 {
		asleep, err := sleeps(p.pid())
		if asleep || err != nil {
			return err
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}
