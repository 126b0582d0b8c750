package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/flocklock/flocklock"
	"github.com/spf13/cobra"
)

// lookInterval is how long ls --watch rests between two looks.
const lookInterval = time.Second

func newLs() *cobra.Command {
	var asJSON, watched bool
	cmd := &cobra.Command{
		Use:   "ls",
		Short: "List the locks of the directory",
		Long: `ls lists every lock of the directory: its scope, whether it is held, by whom and
since when, how far the holder is known (standing), and what else there is to
know. Where several locks have one scope, the first digits of their identities'
hashes tell them apart. What is too long for the terminal, or for 80 columns
where there is none, is cut.

With --watch it looks once a second and tells what changed, until it is
interrupted: in place on a terminal, else by the table again, with --json by one
line for each lock that changed. A lock whose files were removed is free.

A lock that was taken once is listed for as long as its lock file is there. The
answer may be out of date when it arrives: to have a lock, use run.`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := lockDir(cmd)
			if err != nil {
				return err
			}
			out := bufio.NewWriter(cmd.OutOrStdout())
			var told teller = &tableTeller{dir: dir, out: out, screen: openScreen(os.Stdout)}
			if asJSON {
				told = &jsonTeller{out: out, complain: cmd.ErrOrStderr()}
			}
			if watched {
				return watch(dir, told)
			}
			return list(dir, told)
		},
	}
	bindDir(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object on one line for each lock, as status --json prints it, but without the holders")
	cmd.Flags().BoolVar(&watched, "watch", false, "go on, and tell what changes, until interrupted")
	return cmd
}

// A listing is what one look at the directory saw. trouble says which locks
// are not in it.
type listing struct {
	locks   []flocklock.Status
	trouble error
}

// look fails where nothing can be told of the directory.
func look(dir flocklock.Dir) (listing, error) {
	locks, err := dir.List()
	if err != nil && len(locks) == 0 {
		return listing{}, libraryError(err)
	}
	return listing{locks, inPart(err)}, nil
}

// inPart says in one line what may have happened to thousands of locks.
func inPart(err error) error {
	var all interface{ Unwrap() []error }
	if err == nil || !errors.As(err, &all) || len(all.Unwrap()) < 2 {
		return err
	}
	return fmt.Errorf("%d locks could not be looked at; the first: %w", len(all.Unwrap()), all.Unwrap()[0])
}

// A teller tells of listings.
type teller interface {
	once(listing) error
	change(listing) error // what is new since the change before
}

func list(dir flocklock.Dir, told teller) error {
	l, err := look(dir)
	if err != nil {
		return err
	}
	if err := errors.Join(told.once(l), l.trouble); err != nil {
		return &exitError{exitFailed, err}
	}
	return nil
}

// watch looks again and again, until a signal ends it or the directory cannot
// be read.
func watch(dir flocklock.Dir, told teller) error {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, notIgnored(endingSignals)...)
	defer signal.Stop(signals)
	for {
		l, err := look(dir)
		if err != nil {
			return err
		}
		if err := told.change(l); err != nil {
			return &exitError{exitFailed, err}
		}
		select {
		case sig := <-signals:
			return signalled(sig.(syscall.Signal))
		case <-time.After(lookInterval):
		}
	}
}

// A jsonTeller tells by one line for each lock, and of trouble on another
// stream.
type jsonTeller struct {
	out      *bufio.Writer
	complain io.Writer
	last     map[string]flocklock.Status
	trouble  string
}

func (t *jsonTeller) once(l listing) error {
	for _, s := range l.locks {
		if err := json.NewEncoder(t.out).Encode(newStatusJSON(s)); err != nil {
			return err
		}
	}
	return t.out.Flush()
}

func (t *jsonTeller) change(l listing) error {
	if err := t.once(listing{locks: t.changed(l.locks)}); err != nil {
		return err
	}
	trouble := errorText(l.trouble)
	if trouble != t.trouble && trouble != "" {
		fmt.Fprintln(t.complain, "flocklock:", trouble)
	}
	t.trouble = trouble
	return nil
}

// changed returns the locks that are not as they were last, and those that are
// gone, which makes them free.
func (t *jsonTeller) changed(locks []flocklock.Status) (changed []flocklock.Status) {
	before := t.last
	t.last = make(map[string]flocklock.Status, len(locks))
	for _, s := range locks {
		if old, known := before[s.Name]; !known || !sameStatus(old, s) {
			changed = append(changed, s)
		}
		t.last[s.Name] = s
		delete(before, s.Name)
	}
	for _, s := range before {
		gone := flocklock.Status{Name: s.Name, Scope: s.Scope, IdentityHash: s.IdentityHash, State: flocklock.Free}
		if !sameStatus(s, gone) {
			changed = append(changed, gone)
		}
	}
	return changed
}

// sameStatus reports whether two looks saw the same. What is told in words is
// not compared: it counts the seconds.
func sameStatus(a, b flocklock.Status) bool {
	return a.State == b.State && a.Leftover == b.Leftover && a.Left == b.Left &&
		a.Holder.Standing == b.Holder.Standing && a.Holder.Reason == b.Holder.Reason &&
		sameRecord(a.Record, b.Record)
}

func sameRecord(a, b *flocklock.Record) bool {
	at, aerr := json.Marshal(a)
	bt, berr := json.Marshal(b)
	return aerr == nil && berr == nil && string(at) == string(bt)
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// A tableTeller tells by a table for people.
type tableTeller struct {
	dir    flocklock.Dir
	out    *bufio.Writer
	screen screen
	last   string
	drawn  drawing
}

func (t *tableTeller) once(l listing) error {
	for _, line := range t.lines(l, t.screen.size()) {
		fmt.Fprintln(t.out, line)
	}
	return t.out.Flush()
}

// change shows the table where it is not the one that is shown already.
func (t *tableTeller) change(l listing) error {
	size := t.screen.size()
	lines := t.lines(l, size)
	if l.trouble != nil {
		lines = append(lines, cut(escaped(l.trouble.Error()), size.columns))
	}
	if t.screen.canRedraw {
		t.drawn.redraw(t.out, lines, size)
		return t.out.Flush()
	}
	text := fmt.Sprint(lines)
	if text == t.last {
		return nil
	}
	if t.last != "" {
		fmt.Fprintln(t.out)
	}
	t.last = text
	for _, line := range lines {
		fmt.Fprintln(t.out, line)
	}
	return t.out.Flush()
}

func (t *tableTeller) lines(l listing, size size) []string {
	if len(l.locks) == 0 {
		return []string{"There are no locks in " + escaped(string(t.dir)) + "."}
	}
	return lockTable(l.locks, time.Now()).lines(size.columns, t.screen.colour)
}
