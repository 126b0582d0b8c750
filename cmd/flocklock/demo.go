package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/flocklock/flocklock"
	"github.com/spf13/cobra"
)

const (
	demoScope    = "telegram-bot-token"
	demoIdentity = "the token of no bot"
	demoLimit    = time.Minute

	// oldFileAge is short, so that also on a system that has just started the
	// file is not from before that.
	oldFileAge = time.Minute
)

func newDemo() *cobra.Command {
	var parent string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show with real processes what the lock does",
		Long: `demo tells with real processes how the lock is taken, refused, freed by a kill
and taken again, and how a lock file of an old gateway stops blocking. It checks
each step and cleans up after itself.`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE:              func(cmd *cobra.Command, _ []string) error { return runDemo(cmd.OutOrStdout(), parent) },
	}
	cmd.Flags().StringVar(&parent, "dir", "", "the `directory` below which the demo makes its own (default the system's for temporary files)")
	complete(cmd, "dir", proposeDirs)
	return cmd
}

func runDemo(w io.Writer, parent string) error {
	dir, err := os.MkdirTemp(parent, "flocklock-demo-")
	if err != nil {
		return &exitError{exitNoInput, err}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, demoLimit)
	defer cancel()
	d := &demo{w: w, ctx: ctx, dir: flocklock.Dir(dir)}
	fmt.Fprintf(w, "Locks are in %s.\n", dir)
	err = d.tell()
	d.killAll()
	if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
		return &exitError{exitFailed, err}
	}
	return nil
}

// A demo is a story of processes and one lock.
type demo struct {
	w   io.Writer
	ctx context.Context
	dir flocklock.Dir

	workers   []*worker // all
	holder    *worker
	bystander *worker
	record    string // the path of the record
}

// A step of the story says what happened, or why that is not what should have.
type step func(*demo) (string, error)

func (d *demo) tell() error {
	for _, chapter := range []struct {
		title string
		steps []step
	}{
		{"A lock", []step{(*demo).acquires, (*demo).isRefused, (*demo).isKilled, (*demo).acquires, (*demo).releases}},
		{"A lock file that an old gateway left, as in issue 18778", []step{
			(*demo).leavesOldFile, (*demo).misleads, (*demo).wouldMigrate, (*demo).migrates, (*demo).acquires, (*demo).releases,
			(*demo).leavesNothing,
		}},
	} {
		fmt.Fprintf(d.w, "\n%s\n", chapter.title)
		for _, step := range chapter.steps {
			if err := d.take(step); err != nil {
				return err
			}
		}
	}
	fmt.Fprintln(d.w, "\nEvery step went as it should.")
	return nil
}

// take takes one step and tells of it.
func (d *demo) take(step step) error {
	start := time.Now()
	line, err := step(d)
	took := float64(time.Since(start).Microseconds()) / 1000
	if err != nil {
		fmt.Fprintf(d.w, "FAILED  %8.2f ms  %v\n", took, errors.Join(err, d.ctx.Err()))
		return errors.New("a step of the demo failed")
	}
	fmt.Fprintf(d.w, "ok      %8.2f ms  %s\n", took, line)
	return nil
}

func (d *demo) acquires() (string, error) {
	g, answer, err := d.startGateway()
	if err != nil {
		return "", err
	}
	took, held := strings.CutPrefix(answer, "held ")
	if !held {
		return "", fmt.Errorf("gateway %d should have the lock, but says: %s", g.pid(), answer)
	}
	d.holder = g
	return fmt.Sprintf("gateway %d starts and takes the lock, which takes it %s", g.pid(), took), nil
}

func (d *demo) isRefused() (string, error) {
	g, answer, err := d.startGateway()
	if err != nil {
		return "", err
	}
	message, refused := strings.CutPrefix(answer, "refused ")
	if !refused || !strings.Contains(message, fmt.Sprintf("PID %d", d.holder.pid())) {
		return "", fmt.Errorf("gateway %d should be refused for gateway %d, but says: %s", g.pid(), d.holder.pid(), answer)
	}
	return fmt.Sprintf("gateway %d starts and is refused: %s", g.pid(), message), g.finish()
}

func (d *demo) isKilled() (string, error) {
	d.holder.kill()
	s, err := d.dir.Inspect(demoScope, demoIdentity)
	if err == nil && !s.Leftover {
		err = fmt.Errorf("gateway %d was killed, but: %s", d.holder.pid(), s)
	}
	return fmt.Sprintf("gateway %d is killed; the record that it leaves holds nothing", d.holder.pid()), err
}

func (d *demo) releases() (string, error) {
	if err := d.holder.finish(); err != nil {
		return "", err
	}
	s, err := d.dir.Inspect(demoScope, demoIdentity)
	if err == nil && (s.State != flocklock.Free || s.Leftover) {
		err = fmt.Errorf("gateway %d released the lock, but: %s", d.holder.pid(), s)
	}
	return fmt.Sprintf("gateway %d ends and gives the lock back", d.holder.pid()), err
}

// leavesOldFile puts an old gateway's lock file there whose PID now belongs to
// a process that has nothing to do with it.
func (d *demo) leavesOldFile() (string, error) {
	var err error
	if d.bystander, err = d.spawn("demo-bystander"); err != nil {
		return "", err
	}
	if _, err = d.bystander.hear(); err != nil {
		return "", err
	}
	s, err := d.dir.Inspect(demoScope, demoIdentity)
	if err != nil {
		return "", err
	}
	text, err := json.Marshal(map[string]any{
		"pid": d.bystander.pid(), "kind": "hermes-gateway", "argv": []string{"hermes", "gateway", "run"},
		"start_time": nil, "scope": s.Scope, "identity_hash": s.IdentityHash,
		"metadata":   map[string]string{"platform": "telegram"},
		"updated_at": time.Now().Add(-oldFileAge).UTC().Format("2006-01-02T15:04:05.000000-07:00"),
	})
	if err != nil {
		return "", err
	}
	d.record = filepath.Join(string(d.dir), s.Name+".lock")
	return "it says: " + string(text), os.WriteFile(d.record, text, 0o644)
}

func (d *demo) misleads() (string, error) {
	_, err := fmt.Fprintln(d.bystander.stdin, "are you there?")
	if err == nil {
		_, err = d.bystander.hear()
	}
	return fmt.Sprintf("PID %d is alive, so who trusts the PID waits for ever; it was given to another process", d.bystander.pid()), err
}

func (d *demo) wouldMigrate() (string, error) {
	reason, err := d.migrate(flocklock.MigrateOptions{DryRun: true})
	if err == nil {
		_, err = os.Lstat(d.record)
	}
	return "migrate --dry-run would remove the file: " + reason, err
}

func (d *demo) migrates() (string, error) {
	reason, err := d.migrate(flocklock.MigrateOptions{})
	if _, serr := os.Lstat(d.record); err == nil && !errors.Is(serr, os.ErrNotExist) {
		err = fmt.Errorf("%s should be gone: %w", d.record, serr)
	}
	return "migrate removes the file: " + reason, err
}

// migrate expects that the old gateway's file is the only one, and to be
// removed, and returns the reason.
func (d *demo) migrate(o flocklock.MigrateOptions) (string, error) {
	report, err := d.dir.Migrate(o)
	if err != nil {
		return "", err
	}
	if len(report) != 1 || report[0].Action != flocklock.Removed {
		return "", fmt.Errorf("migrate reports %v", report)
	}
	return report[0].Reason, nil
}

func (d *demo) leavesNothing() (string, error) {
	entries, err := os.ReadDir(string(d.dir))
	if err != nil {
		return "", err
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), ".flock") {
			return "", fmt.Errorf("%s was left", entry.Name())
		}
	}
	return "nothing is left but the empty lock file, which stays", nil
}

// startGateway starts a gateway and returns what it says of the lock.
func (d *demo) startGateway() (*worker, string, error) {
	g, err := d.spawn("demo-gateway", "--dir", string(d.dir))
	if err != nil {
		return nil, "", err
	}
	answer, err := g.hear()
	return g, answer, err
}

// A worker is a process of the story. It ends when its standard input does.
type worker struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	lines *bufio.Reader
}

func (d *demo) spawn(args ...string) (*worker, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(d.ctx, exe, args...)
	cmd.Stderr = os.Stderr
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
	w := &worker{cmd, stdin, bufio.NewReader(stdout)}
	d.workers = append(d.workers, w)
	return w, nil
}

func (d *demo) killAll() {
	for _, w := range d.workers {
		w.kill()
	}
}

func (w *worker) pid() int { return w.cmd.Process.Pid }

// hear returns the worker's next line.
func (w *worker) hear() (string, error) {
	line, err := w.lines.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("process %d ended without a word", w.pid())
	}
	return strings.TrimSuffix(line, "\n"), nil
}

// finish lets the worker end by itself.
func (w *worker) finish() error {
	w.stdin.Close()
	if err := w.cmd.Wait(); err != nil {
		return fmt.Errorf("process %d: %w", w.pid(), err)
	}
	return nil
}

// kill ends the worker as SIGKILL does, and waits for that. One that has ended
// stays as it is.
func (w *worker) kill() {
	w.cmd.Process.Kill()
	w.cmd.Wait()
}

// newDemoGateway is a gateway of the story: it takes the lock, says so, and
// gives it back when its standard input ends.
func newDemoGateway() *cobra.Command {
	cmd := &cobra.Command{Use: "demo-gateway", Hidden: true, Args: noArguments}
	dir := cmd.Flags().String("dir", "", "the lock `directory`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		start := time.Now()
		lock, err := flocklock.Dir(*dir).TryAcquire(demoScope, demoIdentity)
		took := time.Since(start)
		var refused *flocklock.HeldError
		if errors.As(err, &refused) {
			fmt.Fprintln(cmd.OutOrStdout(), "refused", refused)
			return nil
		}
		if err != nil {
			return libraryError(err)
		}
		fmt.Fprintln(cmd.OutOrStdout(), "held", took.Round(time.Microsecond))
		io.Copy(io.Discard, cmd.InOrStdin())
		return release(lock, nil)
	}
	return cmd
}

// newDemoBystander is a process that has nothing to do with locks. It says that
// it is there, and again whenever it is asked.
func newDemoBystander() *cobra.Command {
	return &cobra.Command{
		Use: "demo-bystander", Hidden: true, Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			fmt.Fprintln(cmd.OutOrStdout(), "here")
			questions := bufio.NewScanner(cmd.InOrStdin())
			for questions.Scan() {
				fmt.Fprintln(cmd.OutOrStdout(), "here")
			}
			return questions.Err()
		},
	}
}
