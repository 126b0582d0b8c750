package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/flocklock/flocklock"
	"github.com/spf13/cobra"
)

func newStatus() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:                   "status --scope S (--identity-env NAME | --identity-file FILE | --identity VALUE) [--json]",
		DisableFlagsInUseLine: true,
		Short:                 "Say who holds a lock",
		Long: `status says whether a lock is held and by whom. It exits with 0 where the lock
is free and with 75 where it is held. Where others than the record's owner hold
the lock file, it names each process that does, as far as the system tells. The
answer may be out of date when it arrives: to have the lock, use run.`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := inspect(cmd)
			if err != nil {
				return err
			}
			tell := tellStatus
			if asJSON {
				tell = tellStatusJSON
			}
			return conveyed(tell(cmd.OutOrStdout(), s), s.State)
		},
	}
	bindLock(cmd)
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object on one line")
	return cmd
}

// A seen is a lock's status and who holds the kernel's lock.
type seen struct {
	flocklock.Status
	holders []flocklock.Process
	reason  error // why there may be more holders
}

func inspect(cmd *cobra.Command) (seen, error) {
	t, err := lockTarget(cmd)
	if err != nil {
		return seen{}, err
	}
	s := seen{}
	if s.Status, err = t.dir.Inspect(t.scope, t.identity); err != nil {
		return s, libraryError(err)
	}
	if s.State == flocklock.Held {
		s.holders, s.reason = t.dir.Holders(s.Name)
	}
	return s, nil
}

// asRecorded reports whether the record's owner is known to live and nobody else
// was found.
func (s seen) asRecorded() bool {
	switch s.Holder.Standing {
	case flocklock.StandingVerified, flocklock.StandingStopped:
		return len(s.holders) == 0 || len(s.holders) == 1 && s.Record != nil && s.holders[0].PID == s.Record.PID
	case flocklock.StandingLegacy: // holds by its record alone
		return len(s.holders) == 0
	default:
		return s.State == flocklock.Free
	}
}

// gap says why there may be more holders; "" where there are no more.
func (s seen) gap() string {
	if s.reason == nil {
		return ""
	}
	reason := s.reason
	var pathErr *fs.PathError
	if errors.As(reason, &pathErr) {
		reason = pathErr.Err
	}
	if len(s.holders) == 0 {
		return fmt.Sprintf("Which process holds its lock file cannot be known (%v).", reason)
	}
	return fmt.Sprintf("There may be more (%v).", reason)
}

// conveyed is the end of a status that was told, or could not be.
func conveyed(err error, state flocklock.State) error {
	if err != nil {
		return &exitError{exitFailed, err}
	}
	if state == flocklock.Held {
		return &exitError{exitHeld, nil}
	}
	return nil
}

func tellStatus(w io.Writer, s seen) error {
	_, err := fmt.Fprintln(w, strings.Join(s.sentences(), "\n"))
	return err
}

func (s seen) sentences() []string {
	said := []string{s.String()}
	if s.asRecorded() {
		return said
	}
	for _, p := range s.holders {
		said = append(said, "Its lock file is held by "+p.String()+".")
	}
	if gap := s.gap(); gap != "" {
		said = append(said, gap)
	}
	return said
}

// statusJSON is a lock in what status --json and ls --json print; its keys are
// there to stay.
type statusJSON struct {
	Name         string             `json:"name"`
	Scope        string             `json:"scope"`
	IdentityHash string             `json:"identity_hash"`
	State        flocklock.State    `json:"state"`
	Standing     flocklock.Standing `json:"standing"`
	Leftover     bool               `json:"leftover"`
	Record       *flocklock.Record  `json:"record"`
	Message      string             `json:"message"`
}

func newStatusJSON(s flocklock.Status) statusJSON {
	return statusJSON{s.Name, s.Scope, s.IdentityHash, s.State, s.Holder.Standing, s.Leftover, s.Record, s.String()}
}

// A holderJSON is a process that holds the kernel's lock.
type holderJSON struct {
	PID  int      `json:"pid"`
	Argv []string `json:"argv"`
}

func tellStatusJSON(w io.Writer, s seen) error {
	var holders []holderJSON
	if s.reason == nil {
		holders = []holderJSON{}
	}
	for _, p := range s.holders {
		holders = append(holders, holderJSON(p))
	}
	return json.NewEncoder(w).Encode(struct {
		statusJSON
		Holders       []holderJSON `json:"holders"`        // null: not known
		HoldersReason string       `json:"holders_reason"` // why there may be more
	}{newStatusJSON(s.Status), holders, s.gap()})
}
