package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/flocklock/flocklock"
	"github.com/spf13/cobra"
)

func newMigrate() *cobra.Command {
	var o flocklock.MigrateOptions
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Clean up what old gateways left behind",
		Long: `migrate removes the records of old gateways that have ended, with the other
files they left, and completes the records of those that live. What a process
holds is not touched. It says of every file what it did and why.`,
		Args:              noArguments,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			tell := tellMigrated
			if asJSON {
				tell = tellMigratedJSON
			}
			return migrate(cmd, o, tell)
		},
	}
	bindDir(cmd)
	cmd.Flags().BoolVar(&o.DryRun, "dry-run", false, "change nothing, say what would be done")
	cmd.Flags().BoolVar(&asJSON, "json", false, "one JSON object on one line for each file")
	return cmd
}

func migrate(cmd *cobra.Command, o flocklock.MigrateOptions, tell func(io.Writer, flocklock.Migrated) error) error {
	dir, err := lockDir(cmd)
	if err != nil {
		return err
	}
	report, err := dir.Migrate(o)
	if err != nil && len(report) == 0 {
		return libraryError(err)
	}
	for _, m := range report {
		if err := tell(cmd.OutOrStdout(), m); err != nil {
			return &exitError{exitFailed, err}
		}
	}
	if err != nil {
		return &exitError{exitFailed, errors.New("some files could not be looked at or changed; their lines say why")}
	}
	return nil
}

func tellMigrated(w io.Writer, m flocklock.Migrated) error {
	_, err := fmt.Fprintf(w, "%s %s: %s\n", m.Action, printable(m.Name), printable(m.Reason))
	return err
}

func tellMigratedJSON(w io.Writer, m flocklock.Migrated) error {
	return json.NewEncoder(w).Encode(m)
}

// printable quotes what a terminal would take for more than text.
func printable(s string) string {
	odd := func(c rune) bool { return !strconv.IsPrint(c) }
	if !utf8.ValidString(s) || strings.ContainsFunc(s, odd) {
		return strconv.Quote(s)
	}
	return s
}
