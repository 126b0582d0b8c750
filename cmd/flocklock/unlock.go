package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"slices"
	"strings"
	"time"

	"github.com/flocklock/flocklock"
	"github.com/spf13/cobra"
)

func newUnlock() *cobra.Command {
	var u unlocker
	cmd := &cobra.Command{
		Use:                   "unlock (NAME... | --scope S (--identity-env NAME | --identity-file FILE | --identity VALUE) | --all)",
		DisableFlagsInUseLine: true,
		Short:                 "Free what nobody holds",
		Long: `unlock removes what was left of a lock that nobody holds: the record of a
process that ended, an old gateway's record that is judged stale. A lock that is
held it refuses, with 75, and says by whom; there is nothing that a rm would do
better. NAME is a lock as ls shows it: its scope, with a dash and the first
digits of its hash where several have that scope; or its name as status --json
has it.

With --end-holder it ends the process that holds the lock, if that is known for
certain: it asks it to end and kills it after the grace, with all that inherited
the lock from it. On Windows, where nobody can be asked, it ends it at once.`,
		ValidArgsFunction: proposeNames,
		RunE:              func(cmd *cobra.Command, names []string) error { return u.run(cmd, names) },
	}
	bindTarget(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&u.all, "all", false, "every lock of the directory that nobody holds")
	flags.BoolVar(&u.endHolder, "end-holder", false, "end the process that holds the lock")
	bindGrace(cmd, &u.takeOver)
	cmd.MarkFlagsMutuallyExclusive("all", "scope")
	cmd.MarkFlagsMutuallyExclusive("all", "end-holder")
	return cmd
}

func bindGrace(cmd *cobra.Command, o *flocklock.TakeOverOptions) {
	flags := cmd.Flags()
	flags.DurationVar(&o.Grace, "grace", 10*time.Second, "how long the holder may take to end before it is killed")
	flags.BoolVar(&o.Force, "force", false, "end even a holder that took the lock over less than a minute ago")
	complete(cmd, "grace", cobra.NoFileCompletions)
}

type unlocker struct {
	all, endHolder bool
	takeOver       flocklock.TakeOverOptions

	chosen  []flocklock.Status
	trouble error // why there may be more
}

func (u *unlocker) run(cmd *cobra.Command, names []string) error {
	if u.takeOver.Grace <= 0 {
		return usage("the value of --grace is not positive")
	}
	if !u.endHolder && (cmd.Flag("grace").Changed || cmd.Flag("force").Changed) {
		return usage("--grace and --force are for --end-holder")
	}
	dir, err := u.choose(cmd, names)
	if err != nil {
		return err
	}
	ending := notIgnored(endingSignals)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, ending...)
	ctx, stop := signal.NotifyContext(context.Background(), ending...)
	worst := u.unlockAll(ctx, cmd, dir)
	stop()
	return cmp.Or(endingOf(signals), worst)
}

// choose finds the locks that the command line names.
func (u *unlocker) choose(cmd *cobra.Command, names []string) (flocklock.Dir, error) {
	scoped := cmd.Flag("scope").Changed
	identified := slices.ContainsFunc(identityFlags, func(name string) bool { return cmd.Flag(name).Changed })
	switch {
	case scoped && identified && len(names) == 0:
		t, err := lockTarget(cmd)
		if err != nil {
			return "", err
		}
		s, err := t.dir.Inspect(t.scope, t.identity)
		u.chosen = []flocklock.Status{s}
		return t.dir, libraryError(err)
	case scoped || identified || u.all == (len(names) > 0):
		return "", usage("give the NAME of a lock, or --scope and an identity, or --all")
	}
	dir, err := lockDir(cmd)
	if err != nil {
		return dir, err
	}
	list, err := dir.List()
	if err != nil && len(list) == 0 {
		return dir, libraryError(err)
	}
	if u.all {
		u.trouble = inPart(err)
		for _, s := range list {
			if s.State == flocklock.Free && s.Leftover {
				u.chosen = append(u.chosen, s)
			}
		}
		return dir, nil
	}
	for _, name := range names {
		s, err := named(list, name)
		if err != nil {
			return dir, err
		}
		u.chosen = append(u.chosen, s)
	}
	return dir, nil
}

// named is the lock that a word means. A lock that is not there is free.
func named(list []flocklock.Status, word string) (flocklock.Status, error) {
	var meant []flocklock.Status
	for _, s := range list {
		if s.Name == word {
			return s, nil
		}
		if s.Scope == word || strings.HasPrefix(s.Name, word) && len(word) > len(s.Scope)+1 {
			meant = append(meant, s)
		}
	}
	switch len(meant) {
	case 0:
		return flocklock.Status{Name: word, State: flocklock.Free}, nil
	case 1:
		return meant[0], nil
	default:
		return flocklock.Status{}, usage("%d locks have that scope or begin so; give the name of one, as %s", len(meant), printable(meant[0].Name))
	}
}

// unlockAll frees what was chosen. One that cannot be freed does not keep the
// others from it; the end of ctx does.
func (u *unlocker) unlockAll(ctx context.Context, cmd *cobra.Command, dir flocklock.Dir) (worst error) {
	for _, s := range u.chosen {
		if ctx.Err() != nil {
			return worst
		}
		if err := u.unlock(ctx, cmd, dir, s); err != nil && ctx.Err() == nil {
			worst = &exitError{conclude(err, cmd.ErrOrStderr()), nil} // told, and then the others
		}
	}
	if u.trouble != nil {
		return &exitError{exitFailed, u.trouble}
	}
	return worst
}

// unlock frees one lock and says what it did.
func (u *unlocker) unlock(ctx context.Context, cmd *cobra.Command, dir flocklock.Dir, s flocklock.Status) error {
	if u.endHolder && s.State == flocklock.Held {
		if err := dir.EndHolder(ctx, s.Name, u.takeOver); err != nil {
			return libraryError(err)
		}
		return say(cmd, "%s is free. The process that held it has ended.", printable(s.Name))
	}
	err := dir.Clear(s.Name)
	var held *flocklock.HeldError
	switch {
	case errors.As(err, &held):
		return &exitError{exitHeld, fmt.Errorf("%w%s", err, advice(cmd, dir, s.Name, held.Holder))}
	case errors.Is(err, fs.ErrInvalid):
		return libraryError(err)
	case err != nil:
		return &exitError{exitFailed, err}
	case s.Leftover:
		return say(cmd, "%s is free. What stood at the record's path is removed: %s.", printable(s.Name), s.Left)
	case s.Scope == "":
		return say(cmd, "%s is free: there is no such lock.", printable(s.Name))
	}
	return say(cmd, "%s is free.", printable(s.Name))
}

// advice says what would end the holder of a lock, or who really holds it where
// that is another.
func advice(cmd *cobra.Command, dir flocklock.Dir, name string, h flocklock.Holder) string {
	switch h.Standing {
	case flocklock.StandingVerified, flocklock.StandingStopped, flocklock.StandingLegacy:
		if h.Record != nil && h.Record.StartTime != nil {
			return " To end it: flocklock unlock" + dirFlag(cmd) + " --end-holder " + name
		}
	case flocklock.StandingUnknown:
		var said strings.Builder
		found, _ := dir.Holders(name)
		for _, p := range found {
			fmt.Fprintf(&said, " Its lock file is held by %s.", p)
		}
		return said.String()
	}
	return ""
}

// dirFlag is what names the directory on a command line, if that must.
func dirFlag(cmd *cobra.Command) string {
	if flag := cmd.Flag("dir"); flag.Changed {
		return " --dir " + shellWord(flag.Value.String())
	}
	return ""
}

func say(cmd *cobra.Command, format string, args ...any) error {
	if _, err := fmt.Fprintf(cmd.OutOrStdout(), format+"\n", args...); err != nil {
		return &exitError{exitFailed, err}
	}
	return nil
}
