// Whether locks exclude in the directory, by trying.

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/flocklock/flocklock"
	"github.com/spf13/cobra"
)

const (
	// scratchPrefix begins with a dot, so that nobody takes what is in a
	// scratch directory for a lock.
	scratchPrefix   = ".flocklock-doctor-"
	scratchScope    = "doctor"
	scratchIdentity = "a lock of no bot"

	// scratchAge is how old a scratch directory is that nobody uses any more.
	scratchAge = time.Minute
)

// exclusion takes a lock of a scratch directory within the directory, by two
// descriptors and by two processes.
func (d *doctor) exclusion(ctx context.Context) (findings []finding) {
	ctx, cancel := context.WithTimeout(ctx, scratchTime())
	defer cancel()
	if info, err := os.Stat(string(d.dir)); err == nil && swappable(info) != "" {
		return []finding{{
			ID: "locks-not-tried", Severity: aNote, Path: string(d.dir),
			What: "Whether locks exclude there was not tried: " + swappable(info) + " could put a link in the place of the doctor's own files, to have it write elsewhere.",
			Why:  "Only a try shows whether the file system's locks exclude.",
			Mend: "Run flocklock doctor as the owner of the directory, when no other user may write to it.",
		}}
	}
	scratch, err := os.MkdirTemp(string(d.dir), scratchPrefix)
	if err != nil {
		return []finding{d.notWritable(err)}
	}
	defer func() {
		if err := os.RemoveAll(scratch); err != nil {
			findings = append(findings, finding{
				ID: "scratch-left", Severity: aNote, Path: scratch,
				What: "The directory of the doctor's own test cannot be removed: " + err.Error() + ".",
				Why:  "It is in nobody's way, but of no use either.",
				Mend: "rm -r " + shellWord(scratch),
			})
		}
	}()
	err = tryLocks(ctx, flocklock.Dir(scratch))
	var together *togetherError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &together):
		return []finding{{
			ID: "locks-do-not-exclude", Severity: aProblem, Path: string(d.dir),
			What: "Locks do not exclude on this file system: " + err.Error() + ".",
			Why:  "Two gateways would use one token at the same time.",
			Mend: "HERMES_GATEWAY_LOCK_DIR=DIR for all gateways, with a DIR on a local disk.",
		}}
	default:
		return []finding{{
			ID: "locks-not-tried", Severity: aProblem, Path: string(d.dir),
			What: "A lock of the doctor's own could not be tried there: " + firstLine(err) + ".",
			Why:  "A gateway that takes a lock may fail in the same way.",
			Mend: "See to what the message says, or HERMES_GATEWAY_LOCK_DIR=DIR for all gateways, with a DIR on a local disk.",
		}}
	}
}

func (d *doctor) notWritable(err error) finding {
	return finding{
		ID: "directory-not-writable", Severity: aProblem, Path: string(d.dir),
		What: "This user cannot make files in the directory: " + err.Error() + ".",
		Why:  "No new lock can be taken, and none can say who holds it.",
		Mend: d.giveAccess(err),
	}
}

// A togetherError says who held one lock at the same time.
type togetherError struct{ who string }

func (e *togetherError) Error() string { return e.who + " could hold one lock at the same time" }

// tryLocks says how a lock failed to exclude, or could not be tried.
func tryLocks(ctx context.Context, dir flocklock.Dir) error {
	lock, err := dir.TryAcquire(scratchScope, scratchIdentity)
	if err != nil {
		return err
	}
	defer lock.Release()
	if sameProcessExcludes {
		second, err := dir.TryAcquire(scratchScope, scratchIdentity)
		if err == nil {
			return errors.Join(&togetherError{"two descriptors of one process"}, second.Release())
		}
		if !errors.Is(err, flocklock.ErrHeld) {
			return err
		}
	}
	p, err := startProber(ctx, dir)
	if err != nil {
		return err
	}
	defer p.end()
	if answer, err := p.try(); err != nil {
		return err
	} else if answer != proberRefused {
		return &togetherError{"two processes"}
	}
	if err := lock.Release(); err != nil {
		return err
	}
	if answer, err := p.try(); err != nil {
		return err
	} else if answer != proberHeld {
		return errors.New("a lock that was released cannot be taken by another process")
	}
	third, err := dir.TryAcquire(scratchScope, scratchIdentity)
	if err == nil {
		return errors.Join(&togetherError{"two processes"}, third.Release())
	}
	if !errors.Is(err, flocklock.ErrHeld) {
		return err
	}
	return nil
}

const (
	proberHeld    = "held"
	proberRefused = "refused"
)

// A prober is another process that tries a lock whenever it is asked.
type prober struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Reader
}

func startProber(ctx context.Context, dir flocklock.Dir) (*prober, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, exe, "doctor-prober", "--dir", string(dir))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &prober{cmd, stdin, bufio.NewReader(stdout)}, nil
}

// try returns what the prober says when it has tried.
func (p *prober) try() (string, error) {
	if _, err := fmt.Fprintln(p.stdin, "try"); err != nil {
		return "", err
	}
	line, err := p.lines.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("the other process ended without a word: %w", err)
	}
	answer, reason, failed := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
	if failed {
		return "", errors.New(reason)
	}
	return answer, nil
}

// end lets the prober end, and waits for that.
func (p *prober) end() {
	p.stdin.Close()
	p.cmd.Wait()
}

func newDoctorProber() *cobra.Command {
	cmd := &cobra.Command{Use: "doctor-prober", Hidden: true, Args: noArguments}
	dir := cmd.Flags().String("dir", "", "the scratch `directory`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		var lock *flocklock.Lock
		for asked := bufio.NewScanner(cmd.InOrStdin()); lock == nil && asked.Scan(); {
			var err error
			lock, err = flocklock.Dir(*dir).TryAcquire(scratchScope, scratchIdentity)
			switch {
			case err == nil:
				fmt.Fprintln(cmd.OutOrStdout(), proberHeld)
			case errors.Is(err, flocklock.ErrHeld):
				fmt.Fprintln(cmd.OutOrStdout(), proberRefused)
			default:
				fmt.Fprintln(cmd.OutOrStdout(), "failed: "+firstLine(err))
			}
		}
		io.Copy(io.Discard, cmd.InOrStdin())
		return release(lock, nil)
	}
	return cmd
}

// oldScratch removes, or tells of, the scratch directories of doctors that were
// killed.
func (d *doctor) oldScratch() (findings []finding) {
	entries, err := os.ReadDir(string(d.dir))
	if err != nil {
		return nil // which others tell
	}
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), scratchPrefix) {
			continue
		}
		path := filepath.Join(string(d.dir), entry.Name())
		info, err := os.Lstat(path)
		if err != nil || !info.IsDir() || time.Since(info.ModTime()) < scratchAge {
			continue
		}
		f := finding{
			ID: "scratch-left", Severity: aNote, Path: path,
			What: "A doctor that was interrupted left the directory of its test.",
			Why:  "It is in nobody's way, but of no use either.",
			Mend: d.fixCommand(),
		}
		if !ownFile(info) {
			f.Mend = "sudo " + f.Mend
		}
		if d.fix && ownFile(info) {
			if err := os.RemoveAll(path); err != nil {
				f.What += " It cannot be removed: " + err.Error() + "."
			} else {
				f.Fixed = true
			}
		}
		findings = append(findings, f)
	}
	return findings
}

// fixCommand is the command that mends what can be mended.
func (d *doctor) fixCommand() string {
	return "flocklock doctor --fix --dir " + shellWord(string(d.dir))
}
