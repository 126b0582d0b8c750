// Command bench measures flocklock beside its peers and beside the bare system
// calls, all in one run, and prints one table:
//
//	go run ./bench [-quick] [-run REGEXP] [-dir DIR] [-svg DIR]
//
// It takes two or three minutes, and with -quick some seconds.
//
// Of what is measured often the table has the median and what 90 and 99 of 100
// did not exceed; of the rest, the one value. The ratio is flocklock's value
// divided by that of the line's contender, so that "≤ 1.3" on the line of the
// bare calls means that flocklock may take 1.3 times as long as they. That a
// limit is missed is no failure, for a machine may be busy: compare only what
// one run has measured.
//
// -quick shows that everything works. Of so few operations a p99 says little,
// and of so few locks the memory of each is mostly what the process needs once.
//
// DIR decides what a new file costs, and so what the record adds to a hand-over:
// an ext4 without a journal, for instance, looks at all files that were deleted
// near it in the last minutes, so that each run makes the next one slower.
//
// It is a module of its own, so that who imports the lock does not get the
// peers. The contenders are benchmarks too: go test -bench . ./bench
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"time"
)

func main() {
	slog.SetDefault(slog.New(slog.DiscardHandler))
	if mode := os.Getenv(workerEnv); mode != "" {
		work(mode, os.Args[1:])
		return
	}
	if err := run(os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// amounts is how much of everything is measured.
type amounts struct {
	turns       int // of the contenders that do not wait
	rounds      int // hand-overs by release
	kills       int // and by SIGKILL
	cancels     int
	starts      int // of a command
	wait        time.Duration
	competition time.Duration
	locks       int
	goroutines  int
	processes   int
}

var (
	full = amounts{
		turns: 500, rounds: 300, kills: 200, cancels: 200, starts: 100,
		wait: 10 * time.Second, competition: 5 * time.Second,
		locks: 10000, goroutines: 1000, processes: 100,
	}
	quick = amounts{
		turns: 10, rounds: 10, kills: 5, cancels: 10, starts: 5,
		wait: time.Second, competition: time.Second / 2,
		locks: 1000, goroutines: 50, processes: 10,
	}
)

func measurements(a amounts) []measurement {
	return []measurement{
		acquireAndRelease(),
		refusal(),
		startUp(),
		handOverByRelease(),
		handOverByKill(),
		cancellation(),
		processorTime(a),
		fairness(a),
		manyGoroutines(a),
		manyProcesses(a),
		manyLocks(a), // last: that so many files were deleted can make new ones slow
	}
}

// options is what the command line asks for.
type options struct {
	amounts
	pick   *regexp.Regexp // lines of the table
	parent string         // of the folder to lock in; "": the system's temporary one
	charts string         // where to draw; "": nowhere
}

func parse(args []string, stderr io.Writer) (o options, err error) {
	o.amounts, o.pick = full, regexp.MustCompile("")
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolFunc("quick", "measure little of each, to see that it works", func(string) error {
		o.amounts = quick
		return nil
	})
	flags.Func("run", "measure only the lines whose name, such as \"refused try: flocklock\", matches `REGEXP`", func(text string) (err error) {
		o.pick, err = regexp.Compile(text)
		return err
	})
	flags.StringVar(&o.parent, "dir", "", "lock in a new folder in `DIR` (default the system's temporary folder)")
	flags.StringVar(&o.charts, "svg", "", "also draw charts into `DIR`")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	if flags.NArg() > 0 {
		return o, fmt.Errorf("what is %q? See -help", flags.Arg(0))
	}
	return o, nil
}

// run is the program.
func run(args []string, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err == nil && now() == 0 {
		err = errors.New("this system has no clock that processes share")
	}
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.parent, "flocklock-bench")
	if err != nil {
		return err
	}
	return errors.Join(o.report(dir, stdout, stderr), os.RemoveAll(dir))
}

// report measures in a directory, and prints and draws what it measured.
func (o *options) report(dir string, stdout, progress io.Writer) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	table, err := measureAll(ctx, &setting{dir, o.amounts}, o.pick, progress)
	if err != nil {
		return err
	}
	if err := printTable(stdout, header(dir), table); err != nil {
		return err
	}
	if o.charts != "" {
		err = drawCharts(o.charts, table)
	}
	return errors.Join(err, failures(table))
}

// A section of the table is one measurement and its rows.
type section struct {
	measurement
	rows []row
}

// measureAll measures the rows that are picked, and says what it is at. Where
// ctx has ended it begins nothing more.
func measureAll(ctx context.Context, s *setting, pick *regexp.Regexp, progress io.Writer) ([]section, error) {
	var table []section
	for _, m := range measurements(s.amounts) {
		picked := slices.DeleteFunc(slices.Clone(m.rows), func(name string) bool { return !pick.MatchString(lineName(m, name)) })
		if len(picked) == 0 {
			continue
		}
		if ctx.Err() != nil {
			return nil, errors.New("interrupted")
		}
		fmt.Fprintln(progress, m.name, "…")
		own := *s
		var err error
		if own.dir, err = os.MkdirTemp(s.dir, "m"); err != nil {
			return nil, err
		}
		rows := slices.DeleteFunc(m.measure(&own, picked), func(r row) bool { return !slices.Contains(picked, r.name) })
		table = append(table, section{m, rows})
	}
	if len(table) == 0 {
		return nil, errors.New("no line has such a name")
	}
	return table, nil
}

func lineName(m measurement, row string) string { return m.name + ": " + row }

// failures joins why rows have no values that should.
func failures(table []section) error {
	var errs []error
	for _, s := range table {
		for _, r := range s.rows {
			var reason unmeasured
			if r.err != nil && !errors.As(r.err, &reason) {
				errs = append(errs, fmt.Errorf("%s: %w", lineName(s.measurement, r.name), r.err))
			}
		}
	}
	return errors.Join(errs...)
}
