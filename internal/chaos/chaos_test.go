//go:build linux

package chaos

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/flocklock/flocklock"
)

const (
	// chaosEnv is "all", or the seed of a sample.
	chaosEnv = "FLOCKLOCK_CHAOS"

	// sampled is how many faults of each operation a sample has.
	sampled = 30

	// abreast is how many runs go on at once; most of a run is waiting.
	abreast = 4

	// tries is how often a run is made in which the fault does not come about,
	// because the call was made by another thread than when it was listed.
	tries = 6

	// promptly is how soon after its start a new process shall hold the lock. A
	// busy machine may take longer: then it counts by how much longer than a
	// process that nothing stands in the way of.
	promptly = time.Second
)

// A tally counts what came of an operation's faults.
type tally struct {
	what                               string
	calls, faults                      int
	succeeded, failed, killed, escaped int
	bare                               int           // succeeded, but could not write a record
	worst                              time.Duration // until a new process held the lock
	worstOf                            fault
}

// A result is what came of one fault.
type result struct {
	outcome  string // succeeded, bare, error, killed or escaped
	recovery time.Duration
	wrong    []error
}

func TestEveryCall(t *testing.T) {
	c := newCampaign(t)
	choose := everyFault
	if os.Getenv(chaosEnv) != "all" {
		seed := seedOf(t)
		t.Logf("the sample of %s=%d", chaosEnv, seed)
		choose = sampleOf(rand.New(rand.NewPCG(seed, 0)))
	}
	began := time.Now()
	var tallies []tally
	for _, op := range c.operations() {
		calls := c.list(op)
		faults := choose(op.faultsOf(calls))
		if len(calls) == 0 || len(faults) == 0 {
			t.Fatalf("%s makes no calls", op.what)
		}
		sum := c.strikeAll(op, faults)
		sum.calls = len(calls)
		tallies = append(tallies, sum)
	}
	t.Logf("%s\n%s", time.Since(began).Round(time.Second), table(tallies))
	judgeTallies(t, tallies)
}

// judgeTallies sees that the faults came about: else nothing was tested.
func judgeTallies(t *testing.T, tallies []tally) {
	for _, sum := range tallies {
		if sum.escaped > 2 && 20*sum.escaped > sum.faults {
			t.Errorf("%s: %d of %d faults did not come about", sum.what, sum.escaped, sum.faults)
		}
		if sum.worst > promptly {
			t.Errorf("%s: a new process held the lock only after %s: %s", sum.what, sum.worst, sum.worstOf)
		}
	}
}

func seedOf(t *testing.T) uint64 {
	text := os.Getenv(chaosEnv)
	if text == "" {
		return rand.Uint64N(1e6)
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s=%s is neither all nor a seed", chaosEnv, text)
	}
	return seed
}

func everyFault(faults []fault) []fault { return faults }

func sampleOf(random *rand.Rand) func([]fault) []fault {
	return func(faults []fault) []fault {
		random.Shuffle(len(faults), func(i, j int) { faults[i], faults[j] = faults[j], faults[i] })
		return faults[:min(len(faults), sampled)]
	}
}

func table(tallies []tally) string {
	var text strings.Builder
	w := tabwriter.NewWriter(&text, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "operation\tcalls\tfaults\tsucceeded\tof these without record\terror\tkilled\tdid not come about\tworst recovery\t")
	all := tally{what: "all"}
	row := func(s tally) {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t\n", s.what, s.calls, s.faults, s.succeeded, s.bare, s.failed, s.killed, s.escaped,
			s.worst.Round(time.Millisecond))
	}
	for _, s := range tallies {
		row(s)
		all.calls += s.calls
		all.faults += s.faults
		all.succeeded += s.succeeded
		all.bare += s.bare
		all.failed += s.failed
		all.killed += s.killed
		all.escaped += s.escaped
		all.worst = max(all.worst, s.worst)
	}
	row(all)
	w.Flush()
	return text.String()
}

// A campaign is what all runs share.
type campaign struct {
	props
	t      *testing.T
	strace string
	parent string
}

func newCampaign(t *testing.T) *campaign {
	c := &campaign{t: t, strace: tracer(t), parent: t.TempDir()}
	c.props.command = filepath.Join(c.parent, "flocklock")
	if out, err := exec.Command("go", "build", "-o", c.props.command, "github.com/flocklock/flocklock/cmd/flocklock").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	idle := worker("idle", "")
	idle.Args = []string{"hermes-gateway"}
	c.gateway = c.mustStart(idle)
	dir := flocklock.Dir(filepath.Join(c.parent, "props"))
	holder := c.mustStart(worker("acquire", dir))
	var err error
	if c.left, err = os.ReadFile(filepath.Join(string(dir), name+".lock")); err != nil {
		t.Fatal(err)
	}
	holder.kill()
	return c
}

// mustStart starts a worker that reports at once.
func (c *campaign) mustStart(cmd *exec.Cmd) *proc {
	p, err := start(cmd)
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { p.finish() })
	if r, ended, err := p.report(); err != nil || ended || r.Error != "" {
		c.t.Fatalf("%+v, ended %t, %v: %s", r, ended, err, p.errors.text)
	}
	return p
}

// list runs an operation without a fault and returns its calls.
func (c *campaign) list(op operation) []fault {
	var calls []fault
	if r := c.perform(op, listing, func(s *scene, log string) bool {
		calls = callsOf(c.t, log, string(s.dir))
		return true
	}); len(r.wrong) > 0 {
		c.t.Fatalf("%s, without a fault: %v", op.what, errors.Join(r.wrong...))
	}
	for _, call := range calls {
		if _, known := errnos[call.call]; !known {
			c.t.Errorf("%s: it is not known which errors %s can give", op.what, call.call)
		}
	}
	return calls
}

// strikeAll runs an operation with each of some faults.
func (c *campaign) strikeAll(op operation, faults []fault) tally {
	sum := tally{what: op.what, faults: len(faults)}
	var mu sync.Mutex
	var running sync.WaitGroup
	next := make(chan fault)
	for range abreast {
		running.Go(func() {
			for f := range next {
				r := c.strike(op, f)
				mu.Lock()
				sum.add(f, r)
				mu.Unlock()
				for _, err := range r.wrong {
					c.t.Errorf("%s: %s: %s: %v", op.what, f, r.outcome, err)
				}
			}
		})
	}
	for _, f := range faults {
		next <- f
	}
	close(next)
	running.Wait()
	return sum
}

func (s *tally) add(f fault, r result) {
	switch r.outcome {
	case "succeeded":
		s.succeeded++
	case "bare":
		s.succeeded++
		s.bare++
	case "error":
		s.failed++
	case "killed":
		s.killed++
	default:
		s.escaped++
	}
	if r.recovery > s.worst {
		s.worst, s.worstOf = r.recovery, f
	}
}

// strike runs an operation with a fault, until the fault comes about.
func (c *campaign) strike(op operation, f fault) (r result) {
	for range tries {
		came := false
		r = c.perform(op, f.rules(), func(_ *scene, log string) bool {
			came = f.befell(c.t, log)
			return came
		})
		if came || len(r.wrong) > 0 {
			return r
		}
	}
	r.outcome = "escaped"
	return r
}

// perform runs an operation under strace and then sees what it left. look is
// given strace's log.
func (c *campaign) perform(op operation, rules []string, look func(s *scene, log string) bool) (r result) {
	wrong := func(what string, err error) {
		if err != nil {
			r.wrong = append(r.wrong, fmt.Errorf("%s: %w", what, err))
		}
	}
	parent, err := os.MkdirTemp(c.parent, "run")
	if err != nil {
		wrong("prepare", err)
		return r
	}
	defer os.RemoveAll(parent)
	s := &scene{dir: flocklock.Dir(filepath.Join(parent, "locks"))}
	if err := os.Mkdir(string(s.dir), 0o700); err != nil {
		wrong("prepare", err)
		return r
	}
	if err := op.arrange(s); err != nil {
		wrong("prepare", err)
		return r
	}
	watched := watch(s)
	defer func() { wrong("the record", watched()) }()
	log := filepath.Join(parent, "log")
	cmd := op.command(s.dir)
	traced(cmd, c.strace, log, s.files(), without(op.lacks, rules)...)
	p, err := start(cmd)
	if err != nil {
		wrong("start", err)
		return r
	}
	if s.meanwhile != nil {
		wrong("meanwhile", s.meanwhile(p))
	}
	told, ended, err := p.report()
	if err != nil {
		p.kill()
		wrong("worker", err)
		return r
	}
	if !ended && told.Nobody != "" {
		wrong("an error that does not say what was done to which file", errors.New(told.Nobody))
	}
	if told.Left != "" {
		wrong("after the fault", errors.New(told.Left))
	}
	if told.Holds {
		wrong("while the worker holds", mustRefuse(s.dir))
	}
	if s.leave != nil {
		wrong("who else is there", s.leave(told.Holds))
	}
	if told.Holds {
		wrong("finish", p.finish())
	}
	fresh, recovery, err := c.fresh(s)
	if recovery > promptly {
		plain, perr := c.plainStart(parent)
		wrong("a process that nothing stands in the way of", perr)
		recovery -= plain
	}
	r.recovery = recovery
	wrong("a new process", err)
	if !told.Holds {
		wrong("finish", p.finish())
	}
	if fresh != nil {
		wrong("while a new process holds", mustRefuse(s.dir))
		wrong("a new process", c.end(fresh))
		wrong("left behind", onlyFiles(s))
	}
	if s.after != nil {
		wrong("after", s.after())
	}
	look(s, log)
	if op.alone && told.Refused {
		wrong("nobody else is there, but", errors.New(told.Error))
	}
	outcome, err := outcomeOf(op, p, told, ended, s, log)
	r.outcome = outcome
	wrong("outcome", err)
	return r
}

// outcomeOf says how an operation ended.
func outcomeOf(op operation, p *proc, told report, ended bool, s *scene, log string) (string, error) {
	select {
	case line := <-p.strange:
		return "error", fmt.Errorf("a worker said %q", line)
	default:
	}
	text, err := os.ReadFile(log)
	switch {
	case err != nil:
		return "error", err
	case strings.Contains(string(text), "+++ killed by SIGKILL +++"):
		return "killed", nil
	case op.alone && p.cmd.ProcessState.ExitCode() == 75: // of flocklock run
		return "error", fmt.Errorf("nobody else is there, but: %s", p.errors.text)
	case p.cmd.ProcessState.ExitCode() != 0:
		if !strings.Contains(string(p.errors.text), string(s.dir)+"/") && !strings.Contains(string(p.errors.text), " "+string(s.dir)+":") {
			return "error", fmt.Errorf("exit code %d, and no path: %s", p.cmd.ProcessState.ExitCode(), p.errors.text)
		}
		return "error", nil
	case ended:
		return "error", fmt.Errorf("it ended without a word: %s", p.errors.text)
	case told.Error != "":
		return "error", nil
	case told.Record != "":
		return "bare", nil
	}
	return "succeeded", nil
}

// mustRefuse tries to take a lock that somebody has.
func mustRefuse(dir flocklock.Dir) error {
	l, err := dir.TryAcquire(scope, secret)
	if l != nil {
		return errors.Join(errors.New("two hold it"), l.Release())
	}
	if !errors.Is(err, flocklock.ErrHeld) {
		return err
	}
	return nil
}

// fresh has a new process take the lock, and says how long that took.
func (c *campaign) fresh(s *scene) (*proc, time.Duration, error) {
	began := time.Now()
	p, err := start(worker("fresh", s.dir))
	if err != nil {
		return nil, 0, err
	}
	r, ended, err := p.report()
	took := time.Since(began)
	if err == nil && (ended || !r.Holds || r.Record != "") {
		err = fmt.Errorf("does not get it: %+v: %s", r, p.errors.text)
	}
	if err == nil {
		err = mustBeOf(s, p)
	}
	if err != nil {
		p.kill()
		return nil, took, err
	}
	return p, took, nil
}

// plainStart says how long a new process takes for a lock that nobody ever had.
func (c *campaign) plainStart(parent string) (time.Duration, error) {
	dir := flocklock.Dir(filepath.Join(parent, "plain"))
	p, took, err := c.fresh(&scene{dir: dir})
	if err == nil {
		p.kill()
	}
	return took, err
}

// mustBeOf sees that the record is a worker's.
func mustBeOf(s *scene, p *proc) error {
	text, err := os.ReadFile(s.path(name + ".lock"))
	if err != nil {
		return err
	}
	var record flocklock.Record
	if err := record.UnmarshalJSON(text); err != nil || record.PID != p.cmd.Process.Pid {
		return fmt.Errorf("its record is not there: %s, %w", text, err)
	}
	return nil
}

// end lets the new process release and migrate.
func (c *campaign) end(p *proc) error {
	p.stdin.Close()
	r, ended, err := p.report()
	if err == nil && (ended || r.Error != "" || r.Left != "") {
		err = fmt.Errorf("release and migrate: %+v: %s", r, p.errors.text)
	}
	return errors.Join(err, p.finish())
}

// onlyFiles sees that nothing stays but what may.
func onlyFiles(s *scene) error {
	entries, err := os.ReadDir(string(s.dir))
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() != name+".flock" && !slices.Contains(s.spared, entry.Name()) {
			return errors.New(entry.Name())
		}
	}
	return nil
}

// watch looks at the records all the time, until the returned function is
// called, which says what was wrong with one.
func watch(s *scene) func() error {
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			for _, lock := range []string{name, other} {
				if err := whole(s.path(lock + ".lock")); err != nil {
					done <- err
					return
				}
			}
			select {
			case <-stop:
				done <- nil
				return
			case <-time.After(time.Millisecond):
			}
		}
	}()
	return func() error { close(stop); return <-done }
}

// whole sees that a record is whole or absent.
func whole(path string) error {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var keys map[string]json.RawMessage
	if err := json.Unmarshal(text, &keys); err != nil || len(keys["pid"]) == 0 {
		return fmt.Errorf("is not whole: %q: %w", text, err)
	}
	return nil
}
