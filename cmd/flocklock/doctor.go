// The doctor: what it is given, and how it keeps within its time.

package main

import (
	"cmp"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/flocklock/flocklock"
	"github.com/spf13/cobra"
)

// doctorTime is what all checks together may take. The rest of the two seconds
// that are promised is for the start and the end of the process.
var doctorTime = 1700 * time.Millisecond

// scratchTime is what the test of the locks may take, so that it can clean up
// behind itself before the doctor leaves.
func scratchTime() time.Duration { return doctorTime * 4 / 5 }

// holdersTime is what it may take to ask who really holds the locks.
func holdersTime() time.Duration { return doctorTime * 2 / 5 }

func newDoctor() *cobra.Command {
	var d doctor
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find out what is wrong with the lock directory",
		Long: `doctor looks at all that can be wrong with the lock directory and says of each
finding what it is, why it matters, and what mends it. With --fix it mends what
is safe to mend: nothing that is held, and nothing outside the directory.

A held lock is no problem. The exit code is 0 where no problem is left, 1 where
one is, and 66 where the directory cannot be looked at; notes do not count. It
never waits for longer than two seconds, so that it can run before a service
starts: what it could not finish by then is a problem, too.`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			tell := tellDiagnosis
			if asJSON {
				tell = tellDiagnosisJSON
			}
			return d.run(cmd, tell)
		},
	}
	bindDir(cmd)
	cmd.Flags().BoolVar(&d.fix, "fix", false, "mend what is safe to mend, and say so")
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object on one line")
	return cmd
}

// A doctor looks at one directory.
type doctor struct {
	place
	fix bool

	// What a check of a group leaves to those after it.
	locks   []flocklock.Status
	listErr error // what List could not look at
	legacy  bool  // old gateways have left traces in the directory
}

// A check is one thing to look at.
type check struct {
	subject string
	look    func(context.Context) []finding
}

func (d *doctor) run(cmd *cobra.Command, tell func(io.Writer, diagnosis) error) error {
	ctx, cancel := context.WithTimeout(cmd.Context(), doctorTime)
	defer cancel()
	type resolution struct {
		place place
		err   error
	}
	found, known := bounded(ctx, func() resolution {
		place, err := resolve(cmd)
		return resolution{place, err}
	})
	if !known {
		return &exitError{exitNoInput, errors.New("the system does not tell the home directory in time; set HERMES_GATEWAY_LOCK_DIR")}
	}
	if found.err != nil {
		return found.err
	}
	d.place = found.place
	findings, code := d.examine(ctx)
	if err := tell(cmd.OutOrStdout(), diagnosis{string(d.dir), d.reason, findings}); err != nil {
		return &exitError{exitFailed, err}
	}
	if code != 0 {
		return &exitError{code, nil}
	}
	return nil
}

// examine makes all checks and returns the exit code that the findings amount
// to.
func (d *doctor) examine(ctx context.Context) ([]finding, int) {
	around := [][]check{
		{{"other lock directories", d.elsewhere}},
		{{"the file system", d.fileSystem}},
		{{"cleaners of temporary files", d.cleaner}},
	}
	inside := [][]check{
		{{"whether locks exclude", d.exclusion}},
		{{"who holds the locks", d.holders}, {"owners and modes", d.modes}, {"protected files", d.protectedRegular}, {"the files", d.files}, {"old gateways", d.oldGateways}},
	}
	var findings []finding
	err, known := bounded(ctx, func() error { return canList(string(d.dir)) })
	switch {
	case !known:
		findings = []finding{d.unfinished("the directory")}
	case errors.Is(err, fs.ErrNotExist): // it is made when the first lock is taken
		findings = d.checkAll(ctx, append(around, []check{{"what is above the directory", d.missing}}))
	case err != nil:
		return []finding{d.cannotLook(err)}, exitNoInput
	default:
		findings = d.checkAll(ctx, append(around, inside...))
	}
	slices.SortStableFunc(findings, func(a, b finding) int { return cmp.Compare(a.rank(), b.rank()) })
	if slices.ContainsFunc(findings, finding.left) {
		return findings, exitFailed
	}
	return findings, 0
}

// canList says why the directory cannot be looked at.
func canList(dir string) error {
	info, err := os.Stat(dir) // to open a FIFO would wait
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &fs.PathError{Op: "open", Path: dir, Err: errors.New("not a directory")}
	}
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := file.Readdirnames(1); !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// checkAll makes groups of checks beside each other, those of a group one after
// the other. It returns when all are made, or when their time is up.
func (d *doctor) checkAll(ctx context.Context, groups [][]check) []finding {
	found := make([][]finding, len(groups))
	var all sync.WaitGroup
	for i, group := range groups {
		all.Go(func() {
			for _, c := range group {
				findings, finished := bounded(ctx, func() []finding { return c.look(ctx) })
				if !finished {
					findings = []finding{d.unfinished(c.subject)}
				}
				found[i] = append(found[i], findings...)
			}
		})
	}
	all.Wait()
	return slices.Concat(found...)
}

// bounded returns what f returns, or that there was no time for that. Then f,
// which may hang in the kernel, is left to itself and to the end of the process.
func bounded[T any](ctx context.Context, f func() T) (result T, finished bool) {
	if ctx.Err() != nil {
		return result, false
	}
	done := make(chan T, 1)
	go func() { done <- f() }()
	select {
	case result = <-done:
		return result, true
	case <-ctx.Done():
		return result, false
	}
}

func (d *doctor) unfinished(subject string) finding {
	what := "The check of " + subject + " was not finished in time."
	if d.fix {
		what += " It may have mended something."
	}
	return finding{
		ID: "unfinished", Severity: aProblem, Path: string(d.dir), What: what,
		Why:  "What does not answer, or is very large, makes every start of a gateway wait as well.",
		Mend: "Run flocklock doctor again. If that does not help, see whether ls " + shellWord(string(d.dir)) + " answers, and use a directory on a local disk.",
	}
}

func (d *doctor) cannotLook(err error) finding {
	return finding{
		ID: "cannot-look", Severity: aProblem, Path: string(d.dir),
		What: "The directory cannot be looked at: " + err.Error() + ".",
		Why:  "No lock in it can be taken either.",
		Mend: d.giveAccess(err),
	}
}

// giveAccess is what mends an error about the directory.
func (d *doctor) giveAccess(err error) string {
	const other = "HERMES_GATEWAY_LOCK_DIR=DIR for all gateways, with a DIR of their user's."
	if errors.Is(err, fs.ErrPermission) && runtime.GOOS != "windows" {
		return "sudo chown -R USER " + shellWord(string(d.dir)) + ", with the USER of the gateway; or " + other
	}
	return "See to what the message says, or " + other
}
