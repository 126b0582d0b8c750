package main

import (
	"encoding/json"
	"fmt"
	"io"

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
is free and with 75 where it is held. The answer may be out of date when it
arrives: to have the lock, use run.`,
		Args: noArguments,
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

func inspect(cmd *cobra.Command) (flocklock.Status, error) {
	t, err := lockTarget(cmd)
	if err != nil {
		return flocklock.Status{}, err
	}
	s, err := t.dir.Inspect(t.scope, t.identity)
	return s, libraryError(err)
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

func tellStatus(w io.Writer, s flocklock.Status) error {
	_, err := fmt.Fprintln(w, s)
	return err
}

// statusJSON is what status --json prints; its keys are there to stay.
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

func tellStatusJSON(w io.Writer, s flocklock.Status) error {
	return json.NewEncoder(w).Encode(statusJSON{
		s.Name, s.Scope, s.IdentityHash, s.State, s.Holder.Standing, s.Leftover, s.Record, s.String(),
	})
}
