// What many locks and many waiters take of a system.

package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/flocklock/flocklock"
	gopsutil "github.com/shirou/gopsutil/v3/process"
)

// A quantity is something that a process has some of.
type quantity struct {
	name string
	unit unit
	read func() (int, error)
}

func (q quantity) String() string { return q.name }

const memoryEach = "memory each"

var quantities = []quantity{
	{"threads", count, func() (int, error) { return threadsOf(os.Getpid()) }},
	{"descriptors", count, descriptors},
	{"goroutines", count, func() (int, error) { return runtime.NumGoroutine(), nil }},
	{memoryEach, size, func() (int, error) {
		debug.FreeOSMemory() // garbage is not what a lock needs
		return memoryOf(os.Getpid())
	}},
}

func threadsOf(pid int) (int, error) {
	n, err := (&gopsutil.Process{Pid: int32(pid)}).NumThreads()
	return int(n), err
}

func descriptorsOf(pid int) (int, error) {
	n, err := (&gopsutil.Process{Pid: int32(pid)}).NumFDs()
	return int(n), err
}

// memoryOf is the memory of a process that is in RAM.
func memoryOf(pid int) (int, error) {
	info, err := (&gopsutil.Process{Pid: int32(pid)}).MemoryInfo()
	if err != nil {
		return 0, err
	}
	return int(info.RSS), nil
}

// A footprint is how much this process has of each quantity, as far as the
// system tells.
type footprint map[string]int

func takeFootprint() footprint {
	f := make(footprint)
	for _, q := range quantities {
		if n, err := q.read(); err == nil {
			f[q.name] = n
		}
	}
	return f
}

// tell says for each quantity what is more than before.
func (f footprint) tell(before footprint) {
	for _, q := range quantities {
		now, known := f[q.name]
		was, knew := before[q.name]
		if known && knew {
			fmt.Println("more", now-was)
		} else {
			fmt.Println(unmeasuredWord, "the system does not tell")
		}
	}
}

// expectFootprint makes rows of what a worker tells, of which it has n things.
func expectFootprint(p *process, n int) []row {
	var rows []row
	for _, q := range quantities {
		var more float64
		r := row{name: q.name, unit: q.unit}
		if r.err = p.expect("more", &more); r.err == nil {
			if q.name == memoryEach {
				more /= float64(n)
			}
			r.values = []float64{more}
		}
		rows = append(rows, r)
	}
	return rows
}

func manyLocks(a amounts) measurement {
	return measurement{
		name:    fmt.Sprintf("%d locks of one process", a.locks),
		rows:    append(namesOf(quantities), "List, held", "List, free"),
		limits:  []limit{{memoryEach, "", median, below, 4096}},
		measure: measureManyLocks,
	}
}

const lists = 5 // how often the locks are listed

func measureManyLocks(s *setting, names []string) []row {
	var c crew
	defer c.dismiss()
	p, err := c.start("many", s.dir, strconv.Itoa(s.locks))
	if err != nil {
		return failed(names, err)
	}
	var n int
	if err := p.expect("holds", &n); err != nil {
		return failed(names, err)
	}
	rows := expectFootprint(p, n)
	for _, name := range []string{"List, held", "List, free"} {
		rows = append(rows, expectLists(p, name))
	}
	if n < s.locks {
		for i := range rows {
			rows[i].note = fmt.Sprintf("of %d locks only: no more descriptors are allowed", n)
		}
	}
	return rows
}

func expectLists(p *process, name string) row {
	r := row{name: name, unit: seconds}
	for range lists {
		var ns int64
		if r.err = p.expect("listed", &ns); r.err != nil {
			break
		}
		r.values = append(r.values, time.Duration(ns).Seconds())
	}
	return r
}

// spareDescriptors are those that a process needs beside its locks'.
const spareDescriptors = 64

// holdMany is a worker that holds many locks, lists them, gives them back and
// lists them again.
func holdMany(_ *worker, args []string) error {
	dir := flocklock.Dir(args[0])
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	allowed, err := maxDescriptors()
	if err != nil {
		return err
	}
	n = min(n, allowed-spareDescriptors)
	before := takeFootprint()
	locks := make([]*flocklock.Lock, n)
	for i := range locks {
		if locks[i], err = dir.TryAcquire("many", strconv.Itoa(i)); err != nil {
			return err
		}
	}
	fmt.Println("holds", n)
	takeFootprint().tell(before)
	if err := tellLists(dir, n); err != nil {
		return err
	}
	for _, lock := range locks {
		if err := lock.Release(); err != nil {
			return err
		}
	}
	return tellLists(dir, n)
}

func tellLists(dir flocklock.Dir, n int) error {
	for range lists {
		start := time.Now()
		list, err := dir.List()
		if err != nil {
			return err
		}
		if len(list) != n {
			return fmt.Errorf("%d of %d locks are listed", len(list), n)
		}
		fmt.Println("listed", time.Since(start).Nanoseconds())
	}
	return nil
}

const served = "until all had it"

func manyGoroutines(a amounts) measurement {
	return measurement{
		name:    fmt.Sprintf("%d goroutines wait", a.goroutines),
		rows:    append(namesOf(quantities), served),
		measure: measureManyGoroutines,
	}
}

func measureManyGoroutines(s *setting, names []string) []row {
	var c crew
	defer c.dismiss()
	h, err := startHolder(&c, s.dir)
	if err != nil {
		return failed(names, err)
	}
	p, err := c.start("crowd", string(h.dir), strconv.Itoa(s.goroutines))
	if err != nil {
		return failed(names, err)
	}
	rows := expectFootprint(p, s.goroutines)
	r := row{name: served, unit: seconds}
	var before, after int64
	r.err = h.ask("release", "released", &before)
	if r.err == nil {
		r.err = p.expect("served", &after)
		r.values = []float64{time.Duration(after - before).Seconds()}
	}
	return append(rows, r)
}

// waitAsCrowd is a worker of which many goroutines wait for one lock.
func waitAsCrowd(_ *worker, args []string) error {
	dir := flocklock.Dir(args[0])
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	before := takeFootprint()
	turns := make(chan error, n)
	for range n {
		go func() { // ends when it had its turn
			lock, err := dir.Acquire(ctx, scope, secret)
			if err == nil {
				err = lock.Release()
			}
			turns <- err
		}()
	}
	settled().tell(before)
	for range n {
		if err := <-turns; err != nil {
			return err
		}
	}
	fmt.Println("served", now())
	return nil
}

// settled is the footprint once it has stopped changing, or after a while. Of
// memory it takes what there is then.
func settled() footprint {
	last := takeFootprint()
	for same, looks := 0, 0; same < 5 && looks < 200; looks++ {
		time.Sleep(20 * time.Millisecond)
		next := takeFootprint()
		last[memoryEach] = next[memoryEach]
		if maps.Equal(last, next) {
			same++
		} else {
			same = 0
		}
		last = next
	}
	return last
}

func manyProcesses(a amounts) measurement {
	return measurement{
		name: fmt.Sprintf("%d processes wait", a.processes),
		rows: []string{
			"threads, flocklock", "threads, flock(2)", "descriptors, flocklock", "descriptors, flock(2)",
			"memory, flocklock", "memory, flock(2)",
			served + ", flocklock", served + ", flock(2)",
		},
		measure: func(s *setting, _ []string) []row {
			return append(measureManyProcesses(s, "flocklock"), measureManyProcesses(s, "flock(2)")...)
		},
	}
}

// measureManyProcesses lets processes wait for one lock and take one turn each.
func measureManyProcesses(s *setting, locker string) []row {
	var c crew
	defer c.dismiss()
	threads := row{name: "threads, " + locker, unit: count}
	files := row{name: "descriptors, " + locker, unit: count}
	memory := row{name: "memory, " + locker, unit: size}
	turns := row{name: served + ", " + locker, unit: seconds}
	holder, waiters, err := startQueue(&c, s, locker)
	if err != nil {
		return failed([]string{threads.name, files.name, memory.name, turns.name}, err)
	}
	threads.values, threads.err = sum(waiters, threadsOf)
	files.values, files.err = sum(waiters, descriptorsOf)
	memory.values, memory.err = sum(waiters, memoryOf)
	turns.values, turns.err = serve(holder, waiters)
	return []row{threads, files, memory, turns}
}

// startQueue starts a process that holds a lock and others that wait for it.
func startQueue(c *crew, s *setting, locker string) (holder *process, waiters crew, err error) {
	dir, err := os.MkdirTemp(s.dir, "queue")
	if err != nil {
		return nil, nil, err
	}
	if holder, err = c.start("wait", dir, locker); err != nil {
		return nil, nil, err
	}
	if err := holder.ask("hold", "held"); err != nil {
		return nil, nil, err
	}
	for range s.processes {
		p, err := c.start("wait", dir, locker)
		if err != nil {
			return nil, nil, err
		}
		if err := p.ask("turn", "waiting"); err != nil {
			return nil, nil, err
		}
		waiters = append(waiters, p)
	}
	for _, p := range waiters {
		if err := untilAsleep(p); err != nil {
			return nil, nil, err
		}
	}
	return holder, waiters, nil
}

// sum adds up what processes have of something, where the system tells.
func sum(processes crew, of func(pid int) (int, error)) ([]float64, error) {
	total := 0
	for _, p := range processes {
		n, err := of(p.pid())
		if err != nil {
			return nil, unmeasured(err.Error())
		}
		total += n
	}
	return []float64{float64(total)}, nil
}

// serve gives the lock away and measures until the last waiter had it.
func serve(holder *process, waiters crew) ([]float64, error) {
	var before, last int64
	if err := holder.ask("release", "released", &before); err != nil {
		return nil, err
	}
	for _, p := range waiters {
		var at, cpu int64
		if err := p.expect("got", &at, &cpu); err != nil {
			return nil, err
		}
		last = max(last, at)
	}
	return []float64{time.Duration(last - before).Seconds()}, nil
}
