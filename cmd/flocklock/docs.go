package main

import (
	"embed"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
)

// The pages are made by cobra/doc, in a test: linked into the command, it and
// what it needs would make every start a fifth slower.
//
//go:generate go test -run ^TestPages$ . -args -write-pages
//go:embed man/*.1
var pages embed.FS

func newDocs() *cobra.Command {
	docs := &cobra.Command{
		Use:   "docs",
		Short: "Write the man pages",
		Args:  noDocs,
		RunE:  func(*cobra.Command, []string) error { return noDocs(nil, nil) },
	}
	docs.AddCommand(&cobra.Command{
		Use:                   "man DIR",
		DisableFlagsInUseLine: true,
		Short:                 "Write a man page for each command into a directory",
		Long: `man writes a man page for each command into DIR, which it makes where it is
missing.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return usage("man takes one directory; see flocklock docs man --help")
			}
			return nil
		},
		ValidArgsFunction: proposeDirs,
		RunE:              func(_ *cobra.Command, args []string) error { return writePages(args[0]) },
	})
	return docs
}

func noDocs(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("there is no such documentation; see flocklock docs --help")
	}
	return usage("no kind of documentation is given; see flocklock docs --help")
}

func writePages(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return &exitError{exitNoInput, err}
	}
	names, err := fs.Glob(pages, "man/*")
	if err != nil {
		return &exitError{exitFailed, err}
	}
	var errs []error
	for _, name := range names {
		text, err := pages.ReadFile(name)
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, filepath.Base(name)), text, 0o644)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return &exitError{exitFailed, err}
	}
	return nil
}
