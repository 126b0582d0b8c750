// Flocklock holds a lock while a command runs, says who holds one, and cleans
// up what old gateways left behind.
package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/flocklock/flocklock"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

const (
	exitFailed      = 1
	exitUsage       = 64 // from here on as sysexits.h and flock(1) have them
	exitNoInput     = 66
	exitUnavailable = 69
	exitHeld        = 75
	exitSignal      = 128 // and the signal's number
)

const about = `flocklock locks a resource that two processes must never use at once, such as
the token of a bot, and says who holds it. The kernel drops the lock when its
holder ends, however it ends.

Exit codes:

` + exitCodes

// exitCodes is in the README too. It is indented as Markdown has it, of which
// the man page is made.
const exitCodes = `    0      done; of status: the lock is free; of run: COMMAND's own code
    1      a step of the demo failed; a file could not be looked at, migrated or
           written; of doctor: a problem is left
    64     the command line is wrong
    66     the directory, the lock file or the identity file cannot be opened
    69     COMMAND cannot be started
    75     the lock is held, or its holder could not be ended: try again later
    128+n  signal n ended COMMAND, or flocklock before COMMAND was started, or ls
           --watch`

func main() { os.Exit(execute(os.Args[1:])) }

// execute runs the command line and returns the exit code.
func execute(args []string) int {
	slog.SetDefault(slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{
		Level: slog.LevelWarn, ReplaceAttr: withoutTime,
	})))
	root := newRoot()
	root.SetArgs(args)
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		muteErrors()
	}
	return conclude(root.Execute(), os.Stderr)
}

func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return a
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "flocklock",
		Short:         "Lock what two processes must never use at once",
		Long:          about,
		Version:       version(),
		Args:          noSubcommand,
		RunE:          func(*cobra.Command, []string) error { return noSubcommand(nil, nil) },
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return flagError(err) })
	root.AddCommand(newDemo(), newDemoGateway(), newDemoBystander(), newRun(), newStatus(), newLs(), newMigrate(), newDoctor(), newDoctorProber(), newUnlock(), newDocs())
	addCompletion(root)
	return root
}

func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "(unknown)"
	}
	return versionOf(info)
}

// versionOf is the module's version, and the revision that it was built from
// where that is known.
func versionOf(info *debug.BuildInfo) string {
	version := cmp.Or(info.Main.Version, "(devel)")
	settings := make(map[string]string)
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	revision := settings["vcs.revision"]
	switch {
	case revision == "":
		return version
	case settings["vcs.modified"] == "true":
		return version + ", revision " + revision + " with changes"
	default:
		return version + ", revision " + revision
	}
}

// An exitError is an error with the exit code that it stands for. Where err is
// nil there is nothing to tell.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return fmt.Sprintf("exit code %d: %v", e.code, e.err) }

func (e *exitError) Unwrap() error { return e.err }

func usage(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// signalled is the end that a signal brought about.
func signalled(sig syscall.Signal) error { return &exitError{exitSignal + int(sig), nil} }

// conclude tells the error and returns the exit code that it stands for. An
// error without one is cobra's, about the command line.
func conclude(err error, stderr io.Writer) int {
	if err == nil {
		return 0
	}
	exit := &exitError{exitUsage, err}
	errors.As(err, &exit)
	if exit.err != nil {
		fmt.Fprintln(stderr, "flocklock: "+strings.TrimPrefix(exit.err.Error(), "flocklock: "))
	}
	return exit.code
}

// libraryError gives an error of the library its exit code. Of one that ended
// a wait the holder is told, not the clock.
func libraryError(err error) error {
	var held *flocklock.HeldError
	var exit *exitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		return err
	case errors.Is(err, flocklock.ErrNotTakenOver):
		return &exitError{exitHeld, err}
	case errors.As(err, &held):
		return &exitError{exitHeld, held}
	case errors.Is(err, fs.ErrInvalid):
		return &exitError{exitUsage, err}
	default:
		return &exitError{exitNoInput, err}
	}
}

// What stands on the command line may be an identity in the wrong place, so
// that errors about it do not repeat it.

func noSubcommand(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("there is no such subcommand; see flocklock --help")
	}
	return usage("no subcommand is given; see flocklock --help")
}

func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("%s takes flags only; see %s --help", cmd.Name(), cmd.CommandPath())
	}
	return nil
}

func flagError(err error) error {
	var unknown *pflag.NotExistError
	var invalid *pflag.InvalidValueError
	var missing *pflag.ValueRequiredError
	switch {
	case errors.As(err, &unknown) && isWord(unknown.GetSpecifiedName()):
		return usage("there is no flag %s; see --help", dashed(unknown.GetSpecifiedName()))
	case errors.As(err, &invalid):
		return usage("the value of --%s is not a %s", invalid.GetFlag().Name, invalid.GetFlag().Value.Type())
	case errors.As(err, &missing):
		return usage("--%s needs a value", missing.GetFlag().Name)
	default:
		return usage("a flag is not known or not well-formed; see --help")
	}
}

func isWord(s string) bool { return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz-") == "" }

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

func bindDir(cmd *cobra.Command) {
	cmd.Flags().String("dir", "", "the lock `directory` (default $HERMES_GATEWAY_LOCK_DIR, else "+
		"hermes/gateway-locks below $XDG_STATE_HOME, else below ~/.local/state)")
	complete(cmd, "dir", proposeDirs)
}

// lockDir is the directory that --dir names. An empty name is the library's to
// refuse: a variable that is not set must not mean another directory.
func lockDir(cmd *cobra.Command) (flocklock.Dir, error) {
	if flag := cmd.Flag("dir"); flag.Changed {
		return flocklock.Dir(flag.Value.String()), nil
	}
	dir, err := flocklock.DefaultDir()
	if err != nil {
		return "", &exitError{exitNoInput, err}
	}
	return dir, nil
}

const maxIdentity = 64 << 10

// bindLock adds the flags that name a lock, which must be given.
func bindLock(cmd *cobra.Command) {
	bindTarget(cmd)
	cmd.MarkFlagsOneRequired(identityFlags...)
	if err := cmd.MarkFlagRequired("scope"); err != nil {
		panic(err)
	}
}

var identityFlags = []string{"identity-env", "identity-file", "identity"}

// bindTarget adds the flags that name a lock.
func bindTarget(cmd *cobra.Command) {
	bindDir(cmd)
	flags := cmd.Flags()
	flags.String("scope", "", "the `kind` of resource, such as telegram-bot-token")
	flags.String("identity-env", "", "the environment variable that holds the identity, by its `name`")
	flags.String("identity-file", "", "the `file` that holds the identity; one newline at its end does not count")
	flags.String("identity", "", "the identity itself, as `value`, which other users may see in the list of processes")
	complete(cmd, "scope", proposeScopes)
	complete(cmd, "identity-env", proposeVariables)
	complete(cmd, "identity", cobra.NoFileCompletions)
	cmd.MarkFlagsMutuallyExclusive(identityFlags...)
}

// A target is the lock that the flags name.
type target struct {
	dir             flocklock.Dir
	scope, identity string
}

func lockTarget(cmd *cobra.Command) (t target, err error) {
	if t.dir, err = lockDir(cmd); err != nil {
		return t, err
	}
	t.scope = cmd.Flag("scope").Value.String()
	t.identity, err = identity(cmd)
	return t, err
}

func identity(cmd *cobra.Command) (string, error) {
	env, file := cmd.Flag("identity-env"), cmd.Flag("identity-file")
	switch {
	case env.Changed:
		// The name is not repeated: it may be the identity, by mistake.
		value := os.Getenv(env.Value.String())
		if value == "" {
			return "", usage("the environment variable that --identity-env names is not set, or empty")
		}
		return value, nil
	case file.Changed:
		return identityFile(file.Value.String())
	default:
		return cmd.Flag("identity").Value.String(), nil
	}
}

func identityFile(path string) (string, error) {
	text, err := readIdentity(path)
	if err != nil {
		var pathErr *fs.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err // the path may be the identity, by mistake
		}
		return "", &exitError{exitNoInput, fmt.Errorf("the file that --identity-file names cannot be read: %w", err)}
	}
	text = strings.TrimPrefix(text, "\uFEFF") // editors on Windows put one there
	if line, found := strings.CutSuffix(text, "\r\n"); found {
		return line, nil
	}
	return strings.TrimSuffix(text, "\n"), nil
}

func readIdentity(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxIdentity+1))
	if err == nil && len(text) > maxIdentity {
		err = fmt.Errorf("it has more than %d bytes", maxIdentity)
	}
	return string(text), err
}
