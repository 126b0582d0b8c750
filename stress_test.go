package flocklock_test

// Many processes, few locks, and everything at random that may befall them: no
// two may ever hold one lock at one time.
//
// Workers take and give back locks. Their parent kills them, stops them and lets
// them go on, and starts others in their places. A vandal damages, forges and
// removes records. Short-lived processes use up PIDs, so that they come again.
//
// Everybody notes on the one monotonic clock of the system: a worker when it had
// got a lock, and when it still held it before the end; the parent when it was
// about to kill. A hold that a kill interrupts ends at that moment, when the
// worker was alive and had not noted an end. A stopped worker holds on. At the
// end the intervals of each lock are swept for an overlap.
//
// In TestStressVandal the vandal removes and replaces lock files too. No kernel's
// lock survives that, and two may hold two files. What then explains an overlap
// is in [history.explains]; the rest are faults.

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/flocklock/flocklock"
)

// stressEnv says how long each of the two tests lasts, as time.ParseDuration reads
// it. From a minute on they are at scale, and need a machine that has nothing else
// to do.
const stressEnv = "FLOCKLOCK_STRESS"

// A stressScale is how much goes on at once.
type stressScale struct {
	duration         time.Duration
	processes, locks int
}

func newStressScale(t *testing.T) stressScale {
	small := stressScale{1500 * time.Millisecond, 8, 3}
	text := os.Getenv(stressEnv)
	if text == "" {
		return small
	}
	d, err := time.ParseDuration(text)
	if err != nil {
		t.Fatalf("%s: %v", stressEnv, err)
	}
	if d < time.Minute {
		return stressScale{d, small.processes, small.locks}
	}
	return stressScale{d, 64, 16}
}

// said is what a worker's last Check of a hold said.
type said int64

const (
	saidNothing said = iota // it was killed before
	saidOK
	saidRemoved // lost: the lock file was removed or replaced
	saidDoubled // lost: the record is another process's
	saidFought  // somebody else is writing the record
	saidElse    // what nothing explains
)

// hear puts an answer of Check in a word, and tells of what nothing explains.
func hear(err error) said {
	switch {
	case err == nil:
		return saidOK
	case errors.Is(err, flocklock.ErrLost) && strings.Contains(err.Error(), "was removed or replaced"):
		return saidRemoved
	case errors.Is(err, flocklock.ErrLost):
		return saidDoubled
	case fought(err):
		fmt.Println("fought", err)
		return saidFought
	}
	fmt.Println("error", err)
	return saidElse
}

// fought reports whether a record could not be written because another owner
// wrote it all the time. That one must have a lock file of its own.
func fought(err error) bool {
	return err != nil && strings.Contains(err.Error(), "which cannot be judged; try again")
}

// stressWorker takes and gives back locks until its parent has seen enough. It
// writes lines of an event, numbers and a dot, which a kill may cut short.
func stressWorker(args []string) {
	dir := flocklock.Dir(args[0])
	locks, _ := strconv.Atoi(args[1])
	ctx, end := context.WithCancel(context.Background())
	go func() { // ends with the process
		waitForParent()
		end()
	}()
	for ctx.Err() == nil {
		lock := rand.N(locks)
		asked := monotonic()
		l, err := stressAcquire(ctx, dir, lock, asked)
		if err == nil {
			fmt.Println("begin", lock, asked, monotonic(), lockedInode(l), ".")
			stressHold(lock, l)
			continue
		}
		fmt.Println("gave", lock, monotonic(), ".")
		switch {
		case errors.Is(err, flocklock.ErrHeld), errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		case fought(err):
			fmt.Println("fought", err)
		default:
			fmt.Println("error", err)
		}
		time.Sleep(rand.N(10 * time.Millisecond))
	}
}

// stressAcquire tries to take a lock, or waits for it: a little, or until it has
// got it. It tells of a wait.
func stressAcquire(ctx context.Context, dir flocklock.Dir, lock int, asked int64) (*flocklock.Lock, error) {
	if rand.N(3) == 0 {
		return dir.TryAcquire(scope, strconv.Itoa(lock))
	}
	fmt.Println("wait", lock, asked, ".")
	if rand.N(2) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, rand.N(20*time.Millisecond))
		defer cancel()
	}
	return dir.Acquire(ctx, scope, strconv.Itoa(lock))
}

// stressHold holds a lock for a moment, checks it, and gives it back. The end of
// the hold is noted before the last check, so that this must know of a removal
// that let another in before that end.
func stressHold(lock int, l *flocklock.Lock) {
	for range rand.N(3) {
		if rand.N(2) == 0 {
			time.Sleep(rand.N(5 * time.Millisecond))
		}
		hear(l.Check())
	}
	end := monotonic()
	said := hear(l.Check())
	fmt.Println("end", lock, end, monotonic(), int(said), ".")
	if err := l.Release(); err != nil && !leftover(err) {
		fmt.Println("error", err)
	}
}

// leftover reports whether a record could not be removed because somebody, the
// vandal for one, had it open for too long. Windows has such failures.
func leftover(err error) bool {
	var path *fs.PathError
	return runtime.GOOS == "windows" && errors.As(err, &path) && strings.HasSuffix(path.Path, ".lock")
}

// A span is from a moment to a later one.
type span struct{ begin, end int64 }

// A hold is one time in which a worker held a lock.
type hold struct {
	span
	since   int64  // before this it had not got it: it called, or another still had the file
	checked int64  // when the last Check had answered
	file    uint64 // the lock file's inode, which is nobody else's as long as that is open; 0: not known
	worker  int32
	said    said
}

// A history is all that happened to one lock.
type history struct {
	mu      sync.Mutex
	holds   []hold
	waits   []span // of those that waited, to the moment when they did so no more
	removed []span // when the vandal removed or replaced the lock file
	forged  []span // when the vandal put another's record in place

	file, record string // paths
}

func (h *history) add(held hold) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.holds = append(h.holds, held)
}

func (h *history) addWait(s span) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.waits = append(h.waits, s)
}

// within reports whether one of the spans, which are in order, has a part in
// common with another.
func within(spans []span, other span) bool {
	i, _ := slices.BinarySearchFunc(spans, other.begin, func(s span, at int64) int { return cmp.Compare(s.end, at) })
	return i < len(spans) && spans[i].begin <= other.end
}

// sort puts all in order, which the rest relies on, and finds out since when at
// most each worker can have had the lock.
func (h *history) sort() {
	slices.SortFunc(h.holds, func(a, b hold) int { return cmp.Compare(a.begin, b.begin) })
	slices.SortFunc(h.waits, func(a, b span) int { return cmp.Compare(a.begin, b.begin) })
	last := make(map[uint64]int64) // by file, until when it was held
	for i := range h.holds {
		held := &h.holds[i]
		if before := last[held.file]; before <= held.begin {
			held.since = max(held.since, before)
		}
		last[held.file] = max(last[held.file], held.end)
	}
}

// overlaps sweeps over the holds and returns those pairs of which two held the
// lock at one time and nothing explains it, and how many are explained.
func (h *history) overlaps() (faults [][2]hold, explained int) {
	var open []hold // all that began before and may go on
	for _, b := range h.holds {
		open = slices.DeleteFunc(open, func(a hold) bool { return a.end <= b.begin })
		for _, a := range open {
			if h.explains(a, b) || h.explains(b, a) {
				explained++
			} else {
				faults = append(faults, [2]hold{a, b})
			}
		}
		open = append(open, b)
	}
	return faults, explained
}

// explains reports whether a removal of the lock file explains that another held
// the lock too: they held two files, the file went when the first one may have
// had the lock and before the other had got it, and the first one's Check told
// of it, unless a kill came before. A worker has the lock for a moment before it
// notes that, so which of the two was first the notes do not tell.
func (h *history) explains(first, other hold) bool {
	return first.file != other.file &&
		(first.said == saidRemoved || first.said == saidNothing) &&
		within(h.removed, span{first.since, min(first.end, other.begin)})
}

// alarms returns the holds of which the last Check said what is not so.
func (h *history) alarms() (faults []hold) {
	for _, held := range h.holds {
		during := span{held.since, held.checked}
		switch {
		case held.said == saidRemoved && !within(h.removed, during):
			faults = append(faults, held)
		// Where files were removed, another that had its lock on the old one may
		// write its record at any time.
		case held.said == saidDoubled && len(h.removed) == 0 && !within(h.forged, during):
			faults = append(faults, held)
		}
	}
	return faults
}

// recoveries returns, for each kill of a holder while somebody waited, how long
// from the moment before the kill the longest of those waited on in vain: until
// somebody noted that it had got the lock, or until the wait ended otherwise.
func (h *history) recoveries() (times []int64) {
	latest := make([]int64, len(h.waits)) // end of the waits so far
	for i, w := range h.waits {
		if latest[i] = w.end; i > 0 {
			latest[i] = max(w.end, latest[i-1])
		}
	}
	var others int64 // until when those before held it
	for i, held := range h.holds {
		free := others <= held.end
		others = max(others, held.end)
		if held.said != saidNothing || !free || i+1 < len(h.holds) && h.holds[i+1].begin <= held.end {
			continue
		}
		waiting, _ := slices.BinarySearchFunc(h.waits, held.end+1, func(w span, at int64) int { return cmp.Compare(w.begin, at) })
		if waiting == 0 || latest[waiting-1] <= held.end {
			continue
		}
		until := latest[waiting-1]
		if i+1 < len(h.holds) {
			until = min(until, h.holds[i+1].begin)
		}
		times = append(times, until-held.end)
	}
	return times
}

// handOvers counts the holds by another worker than the one before.
func (h *history) handOvers() (n int) {
	for i := 1; i < len(h.holds); i++ {
		if h.holds[i].worker != h.holds[i-1].worker {
			n++
		}
	}
	return n
}

// A stress is one test and what came of it.
type stress struct {
	t     *testing.T
	dir   flocklock.Dir
	scale stressScale
	locks []*history
	files bool          // the vandal goes for lock files too
	stop  chan struct{} // closed at the end

	mu                                  sync.Mutex
	workers, kills, stops, killsStopped int
	acquired                            int          // so far
	acts, removed                       int          // of the vandal; lock files of these
	fights                              int          // refusals because two wrote one record
	pids                                map[int]bool // that were used
	recycled                            int          // processes with a PID that another had before
}

func newStress(t *testing.T, files bool) *stress {
	s := &stress{t: t, dir: newDir(t), scale: newStressScale(t), files: files, stop: make(chan struct{}), pids: make(map[int]bool)}
	for lock := range s.scale.locks {
		l, err := s.dir.TryAcquire(scope, strconv.Itoa(lock))
		if err != nil {
			t.Fatal(err)
		}
		s.locks = append(s.locks, &history{file: l.Path(), record: strings.TrimSuffix(l.Path(), ".flock") + ".lock"})
		l.Release()
	}
	return s
}

// use notes that a process has a PID.
func (s *stress) use(pid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pids[pid] {
		s.recycled++
	}
	s.pids[pid] = true
}

// count counts one more of something.
func (s *stress) count(what *int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	*what++
	return *what
}

// end ends the test when its time is up and it has something to tell of, which
// may take longer where a machine is busy.
func (s *stress) end() {
	defer close(s.stop)
	time.Sleep(s.scale.duration)
	for late := time.Now().Add(hang); !s.proven() && time.Now().Before(late); {
		time.Sleep(10 * time.Millisecond)
	}
}

// proven reports whether somebody held a lock, was killed, and met the vandal.
func (s *stress) proven() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kills > 0 && s.acts > 0 && slices.ContainsFunc(s.locks, func(h *history) bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.holds) > 0
	})
}

// ended waits for a while, and reports whether the test is at its end.
func (s *stress) ended(d time.Duration) bool {
	select {
	case <-s.stop:
		return true
	case <-time.After(d):
		return false
	}
}

// A life is one worker's, and what it does now.
type life struct {
	*stress
	*proc
	number  int32
	now     hold
	at      *history // where it waits or holds; nil: nowhere
	waiting bool
	stopped bool
	doomed  bool  // something befalls it when it next holds a lock
	killed  int64 // when; 0: not
}

// live starts a worker and follows it to its end, which is a kill at a random
// moment or the test's end. It says whether another is wanted.
func (s *stress) live() bool {
	p := spawn(s.t, "stress", []string{string(s.dir), strconv.Itoa(s.scale.locks)})
	s.use(p.pid())
	w := &life{stress: s, proc: p, number: int32(s.count(&s.workers))}
	var next, overdue <-chan time.Time // none before the worker is at work
	stop := s.stop
	for open := true; open; {
		select {
		case text, more := <-p.lines:
			if open = more; more {
				w.note(text)
			}
			switch {
			case w.killed != 0 || stop == nil:
			case w.doomed && w.holds():
				w.doomed = false
				next = time.After(rand.N(time.Millisecond))
			case next == nil && !w.doomed:
				next = w.later()
			}
		case <-next:
			// A hold is short, so half of the time one is waited for.
			if w.doomed = !w.stopped && !w.holds() && rand.N(2) == 0; w.doomed {
				next = nil
			} else {
				next = w.befall()
			}
		case <-stop:
			stop, next, overdue = nil, nil, time.After(hang)
			w.goOn()
			p.stdin.Close()
		case <-overdue:
			s.t.Error("a worker does not end")
			w.strike()
		}
	}
	p.kill()
	if w.killed == 0 && stop != nil {
		s.t.Error("a worker ended by itself")
	}
	w.bury()
	return stop != nil
}

// later is a random moment, such that many processes do not mean many kills.
func (w *life) later() <-chan time.Time {
	return time.After(20*time.Millisecond + rand.N(time.Duration(w.scale.processes)*60*time.Millisecond))
}

// befall stops the worker, lets it go on, or kills it, in which case nothing
// comes next.
func (w *life) befall() <-chan time.Time {
	switch {
	case w.stopped && rand.N(4) != 0:
		w.goOn()
		return w.later()
	case !w.stopped && rand.N(2) == 0 && stopProcess(w.cmd.Process):
		w.stopped = true
		w.count(&w.stops)
		return time.After(rand.N(100 * time.Millisecond))
	case w.tooManyKills():
		w.goOn()
		return w.later()
	}
	w.strike()
	return nil
}

// tooManyKills reports whether the locks should be used for a while first: to
// start a process is dear, under Wine above all.
func (s *stress) tooManyKills() bool {
	const atFirst, share = 10, 40
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.kills > atFirst && s.acquired < share*s.kills
}

func (w *life) holds() bool { return w.at != nil && !w.waiting }

func (w *life) goOn() {
	if w.stopped {
		continueProcess(w.cmd.Process)
		w.stopped = false
	}
}

func (w *life) strike() {
	w.count(&w.kills)
	if w.stopped {
		w.count(&w.killsStopped)
	}
	w.killed = monotonic()
	w.cmd.Process.Kill()
}

// note takes down a worker's line. The kill may have cut it short.
func (w *life) note(text string) {
	words := strings.Fields(text)
	switch {
	case len(words) == 0:
		return
	case words[0] == "fought" && w.files:
		w.count(&w.fights)
		return
	case words[0] == "fought" || words[0] == "error":
		w.stress.t.Error(text)
		return
	case words[len(words)-1] != ".":
		return
	}
	var n [4]int64
	for i, word := range words[1 : len(words)-1] {
		n[i], _ = strconv.ParseInt(word, 10, 64)
	}
	h := w.locks[n[0]]
	switch words[0] {
	case "wait":
		w.at, w.waiting, w.now = h, true, hold{since: n[1]}
	case "gave":
		w.waits(n[1])
		w.at = nil
	case "begin":
		w.count(&w.acquired)
		w.waits(n[2])
		w.at, w.now = h, hold{span: span{begin: n[2]}, since: n[1], file: uint64(n[3]), worker: w.number}
	case "end":
		w.now.end, w.now.checked, w.now.said = n[1], n[2], said(n[3])
		h.add(w.now)
		w.at = nil
	}
}

// waits notes that the worker waited up to a moment, if it did.
func (w *life) waits(until int64) {
	if w.waiting {
		w.at.addWait(span{w.now.since, until})
		w.waiting = false
	}
}

// bury ends what the kill has interrupted.
func (w *life) bury() {
	switch {
	case w.killed == 0 || w.at == nil:
	case w.waiting:
		w.waits(w.killed)
	case w.killed > w.now.begin:
		w.now.end, w.now.checked = w.killed, w.killed
		w.at.add(w.now)
	}
}

// churn starts processes that end at once, so that PIDs come round. It does so a
// tenth of the time.
func (s *stress) churn() {
	for pause := time.Duration(0); !s.ended(pause); {
		begun := time.Now()
		p := spawn(s.t, "ephemeral", nil)
		s.use(p.pid())
		p.finish()
		pause = 9 * time.Since(begun)
	}
}

// A vandal damages what is in the directory. It does not make what claims to be
// a living old gateway's, for which everybody would rightly wait: it cuts a
// record before the start time, for half of one that has the PID and the start
// of a living process may be just that; and it writes none in place, for who
// reads it meanwhile sees such a half.
type vandal struct {
	*stress
	dead    int    // a PID that nobody had when the test began
	scratch string // where it prepares a file
}

// rage does what vandals do until the end. What is no record, and what takes a
// legacy record's place, keeps a lock from being taken for up to 0.4 s; so its
// pace depends on the number of locks.
func (v *vandal) rage() {
	pause := 1500 * time.Millisecond / time.Duration(v.scale.locks)
	for !v.ended(rand.N(pause)) {
		h := v.locks[rand.N(len(v.locks))]
		if v.files && rand.N(2) == 0 {
			v.removeFile(h)
		} else {
			v.damage(h)
		}
		v.count(&v.acts)
	}
}

// removeFile removes or replaces a lock file. Where that is held Windows does not
// allow it.
func (v *vandal) removeFile(h *history) {
	remove := func() error { return os.Remove(h.file) }
	if rand.N(2) == 0 {
		v.prepare("")
		remove = func() error { return os.Rename(v.scratch, h.file) }
	}
	begun := monotonic()
	if remove() == nil {
		h.removed = append(h.removed, span{begun, monotonic()})
		v.count(&v.removed)
	}
}

// damage does something to a record, which may be gone meanwhile.
func (v *vandal) damage(h *history) {
	switch rand.N(6) {
	case 0:
		os.Truncate(h.record, 0)
	case 1:
		text, _ := os.ReadFile(h.record)
		if head := strings.Index(string(text), `"start_time"`); head > 0 {
			v.write(h.record, string(text[:rand.N(head)]))
		}
	case 2:
		garbage := make([]byte, rand.N(400))
		for i := range garbage {
			garbage[i] = byte(rand.N(256))
		}
		v.write(h.record, string(garbage))
	case 3:
		begun := monotonic()
		if text, err := os.ReadFile(v.locks[rand.N(len(v.locks))].record); err == nil {
			v.replace(h.record, string(text))
			h.forged = append(h.forged, span{begun, monotonic()})
		}
	case 4:
		v.write(h.record, legacyText(v.t, v.dead, legacy{"start_time": 1}))
	case 5:
		os.Remove(h.record)
	}
}

// write writes a record in place, or puts a new file in its place.
func (v *vandal) write(path, text string) {
	if rand.N(2) == 0 {
		os.WriteFile(path, []byte(text), 0o644) // a moment's failure is Windows's
		return
	}
	v.replace(path, text)
}

// replace puts a new file in the place of a record.
func (v *vandal) replace(path, text string) {
	v.prepare(text)
	os.Rename(v.scratch, path)
}

func (v *vandal) prepare(text string) {
	if err := os.WriteFile(v.scratch, []byte(text), 0o644); err != nil {
		v.t.Error(err)
	}
}

// run lets all of it go on for as long as is wanted.
func (s *stress) run() {
	dead := stranger(s.t)
	dead.kill()
	v := &vandal{stress: s, dead: dead.pid(), scratch: filepath.Join(s.t.TempDir(), "scratch")}
	go s.end()
	var all sync.WaitGroup
	for range s.scale.processes {
		all.Go(func() {
			for s.live() {
			}
		})
	}
	all.Go(s.churn)
	all.Go(v.rage)
	all.Wait()
	s.judge()
	s.settle()
}

// judge looks for faults in what happened, and reports.
func (s *stress) judge() {
	holds, handOvers, explained := 0, 0, 0
	var recoveries []int64
	for lock, h := range s.locks {
		h.sort()
		holds += len(h.holds)
		handOvers += h.handOvers()
		recoveries = append(recoveries, h.recoveries()...)
		faults, n := h.overlaps()
		explained += n
		for _, pair := range faults[:min(len(faults), 10)] {
			s.t.Errorf("lock %d: %+v and %+v held it at one time; %d such pairs", lock, pair[0], pair[1], len(faults))
		}
		for _, held := range h.alarms() {
			s.t.Errorf("lock %d: nothing explains what Check said: %+v", lock, held)
		}
	}
	if !s.proven() {
		s.t.Errorf("%d acquisitions, %d kills and %d acts of the vandal prove nothing", holds, s.kills, s.acts)
	}
	s.t.Logf("%v, %d processes on %d locks: %d acquisitions, %d hand-overs, %d kills (%d of stopped processes), %d stops, "+
		"%d acts of the vandal, %d PIDs used again; recovered %s",
		s.scale.duration, s.scale.processes, s.scale.locks, holds, handOvers, s.kills, s.killsStopped, s.stops,
		s.acts, s.recycled, recovered(recoveries))
	if s.files {
		s.t.Logf("%d lock files removed or replaced; %d times two held a lock, which that explains; %d times two wrote one record and one was refused",
			s.removed, explained, s.fights)
	}
	if n := len(recoveries); n > 0 && time.Duration(recoveries[n-1]) > hang {
		s.t.Errorf("somebody waited in vain for %v", time.Duration(recoveries[n-1]))
	}
}

// recovered puts the times of [history.recoveries] in order and in words.
func recovered(times []int64) string {
	if len(times) == 0 {
		return "never while somebody waited"
	}
	slices.Sort(times)
	at := func(i int) time.Duration { return time.Duration(times[i]).Round(10 * time.Microsecond) }
	return fmt.Sprintf("%d times from a kill while somebody waited, half within %v, 99 of 100 within %v, the worst in %v",
		len(times), at(len(times)/2), at(len(times)*99/100), at(len(times)-1))
}

// settle sees that nothing is left in the way of the next.
func (s *stress) settle() {
	report, err := s.dir.Migrate(flocklock.MigrateOptions{})
	if err != nil {
		s.t.Error(err)
	}
	for _, m := range report {
		if m.Action != flocklock.Removed {
			s.t.Errorf("%+v", m)
		}
	}
	for lock := range s.locks {
		l, err := s.dir.TryAcquire(scope, strconv.Itoa(lock))
		if err != nil {
			s.t.Error(err)
			continue
		}
		l.Release()
	}
	for _, file := range files(s.t, s.dir) {
		if !strings.HasSuffix(file, ".flock") {
			s.t.Errorf("left behind: %s", file)
		}
	}
}

// The sweep finds what it is there for.
func TestStressSweep(t *testing.T) {
	held := func(worker int32, begin, end int64) hold {
		return hold{span: span{begin, end}, since: begin - 5, checked: end + 2, file: 1, worker: worker, said: saidOK}
	}
	for what, c := range map[string]struct {
		holds []hold
		want  int
	}{
		"one after the other":        {[]hold{held(1, 10, 20), held(2, 30, 40)}, 0},
		"one when the other ends":    {[]hold{held(1, 10, 20), held(2, 20, 40)}, 0},
		"two at one time":            {[]hold{held(1, 10, 21), held(2, 20, 40)}, 1},
		"two that began at one time": {[]hold{held(1, 10, 20), held(2, 10, 30)}, 1},
		"one within another":         {[]hold{held(1, 10, 90), held(2, 20, 30), held(3, 100, 110)}, 1},
		"two within a third":         {[]hold{held(1, 10, 90), held(2, 20, 30), held(3, 40, 50)}, 2},
		"three at one time":          {[]hold{held(1, 10, 90), held(2, 20, 80), held(3, 30, 70)}, 3},
		"noted late":                 {[]hold{held(1, 30, 40), held(2, 60, 70), held(3, 10, 35)}, 1},
	} {
		h := history{holds: c.holds}
		h.sort()
		if faults, explained := h.overlaps(); len(faults) != c.want || explained != 0 {
			t.Errorf("%s: %d overlaps, want %d; %d explained", what, len(faults), c.want, explained)
		}
	}

	// The first has the lock from 95 to 200, the other from 150 on.
	for what, c := range map[string]struct {
		removed []span
		said    said // by the first one
		file    uint64
		before  int64 // until then somebody else held the first one's file
		want    bool
	}{
		"removed, and Check told":      {[]span{{120, 121}}, saidRemoved, 2, 0, true},
		"removed, and killed":          {[]span{{120, 121}}, saidNothing, 2, 0, true},
		"removed in between twice":     {[]span{{10, 11}, {120, 121}, {130, 131}}, saidRemoved, 2, 0, true},
		"removed before it noted that": {[]span{{97, 98}}, saidRemoved, 2, 0, true},
		"nothing was removed":          {nil, saidRemoved, 2, 0, false},
		"Check told nothing":           {[]span{{120, 121}}, saidOK, 2, 0, false},
		"Check told something else":    {[]span{{120, 121}}, saidDoubled, 2, 0, false},
		"both on one file":             {[]span{{120, 121}}, saidRemoved, 1, 0, false},
		"both on one file, and killed": {[]span{{120, 121}}, saidNothing, 1, 0, false},
		"removed long before":          {[]span{{10, 11}, {80, 94}}, saidRemoved, 2, 0, false},
		"removed after the other":      {[]span{{151, 160}, {190, 191}}, saidRemoved, 2, 0, false},
		"removed before it had it":     {[]span{{97, 98}}, saidRemoved, 2, 99, false},
		"removed after it had it":      {[]span{{120, 121}}, saidRemoved, 2, 99, true},
	} {
		first, other := held(1, 100, 200), held(2, 150, 170)
		first.said, other.file = c.said, c.file
		for _, order := range [][]hold{{first, other}, {other, first}} {
			h := history{holds: order, removed: c.removed}
			if c.before != 0 {
				h.holds = append(h.holds, held(3, 60, c.before))
			}
			h.sort()
			if faults, explained := h.overlaps(); explained != 0 != c.want || len(faults) != 0 == c.want {
				t.Errorf("%s: %d overlaps are faults, %d explained", what, len(faults), explained)
			}
		}
	}

	// Check told that something had happened from 95 to 202.
	for what, c := range map[string]struct {
		said            said
		removed, forged []span
		want            int
	}{
		"nothing":             {saidOK, nil, nil, 0},
		"a removal":           {saidRemoved, []span{{201, 210}}, nil, 0},
		"no removal":          {saidRemoved, nil, []span{{120, 121}}, 1},
		"an earlier removal":  {saidRemoved, []span{{80, 94}}, nil, 1},
		"a forged record":     {saidDoubled, nil, []span{{120, 121}}, 0},
		"no forged record":    {saidDoubled, nil, nil, 1},
		"an early forgery":    {saidDoubled, nil, []span{{80, 94}}, 1},
		"a killed one's word": {saidNothing, nil, nil, 0},
	} {
		first := held(1, 100, 200)
		first.said = c.said
		h := history{holds: []hold{first}, removed: c.removed, forged: c.forged}
		if got := h.alarms(); len(got) != c.want {
			t.Errorf("%s: %d false alarms, want %d", what, len(got), c.want)
		}
	}

	// The first is killed at 200, the other has the lock from 250 on.
	for what, c := range map[string]struct {
		said  said
		waits []span
		want  []int64
	}{
		"nobody waited":             {saidNothing, nil, nil},
		"the other waited":          {saidNothing, []span{{150, 250}}, []int64{50}},
		"another one waits on":      {saidNothing, []span{{120, 300}, {150, 250}}, []int64{50}},
		"another one gave up":       {saidNothing, []span{{150, 230}, {210, 250}}, []int64{30}},
		"a wait ended before":       {saidNothing, []span{{110, 150}}, nil},
		"a wait began after":        {saidNothing, []span{{201, 250}}, nil},
		"released, and not killed":  {saidOK, []span{{150, 250}}, nil},
		"two waits, one is noticed": {saidNothing, []span{{100, 120}, {160, 240}}, []int64{40}},
	} {
		first, other := held(1, 100, 200), held(2, 250, 260)
		first.said = c.said
		h := history{holds: []hold{first, other}, waits: c.waits}
		h.sort()
		if got := h.recoveries(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", what, got, c.want)
		}
		if h.handOvers() != 1 {
			t.Errorf("%s: %d hand-overs, want 1", what, h.handOvers())
		}
	}
}

func TestStress(t *testing.T) { newStress(t, false).run() }

// 31: somebody removes the lock file while it is held.
func TestStressVandal(t *testing.T) { newStress(t, true).run() }
