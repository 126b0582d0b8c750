// What the shell proposes when it completes a command line. No identity is
// among it.

package main

import (
	"os"
	"slices"
	"strings"

	"github.com/flocklock/flocklock"
	"github.com/spf13/cobra"
)

// addCompletion adds cobra's completion command, with our errors: cobra's own
// would repeat what stands on the command line, and give a shell that it does
// not know for success.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, cmd := range root.Commands() {
		if cmd.Name() != "completion" {
			continue
		}
		cmd.Use = "completion SHELL"
		cmd.Short = "Print what makes a shell complete our command lines"
		cmd.Args, cmd.RunE = noShell, func(*cobra.Command, []string) error { return noShell(nil, nil) }
		for _, shell := range cmd.Commands() {
			shell.Args = noArguments
		}
	}
}

func noShell(_ *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("there is no completion for that shell; see flocklock completion --help")
	}
	return usage("no shell is given; see flocklock completion --help")
}

// muteErrors keeps a completion from telling of its errors: cobra would repeat
// the command line. The shell does not show them anyway.
func muteErrors() {
	if null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0); err == nil {
		os.Stderr = null
	}
}

// complete sets what is proposed for a flag's value.
func complete(cmd *cobra.Command, flag string, propose cobra.CompletionFunc) {
	if err := cmd.RegisterFlagCompletionFunc(flag, propose); err != nil {
		panic(err)
	}
}

func proposeDirs(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return nil, cobra.ShellCompDirectiveFilterDirs
}

// proposeScopes proposes the scopes that the lock directory has.
func proposeScopes(cmd *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	return listed(cmd, begun, func(s flocklock.Status) string { return s.Scope }), cobra.ShellCompDirectiveNoFileComp
}

// proposeNames proposes the names of the locks that the lock directory has, but
// for those that stand on the command line.
func proposeNames(cmd *cobra.Command, given []string, begun string) ([]string, cobra.ShellCompDirective) {
	names := listed(cmd, begun, func(s flocklock.Status) string { return s.Name })
	isGiven := func(name string) bool { return slices.Contains(given, name) }
	return slices.DeleteFunc(names, isGiven), cobra.ShellCompDirectiveNoFileComp
}

// listed is what the locks of the directory have for part, where it begins as
// it was begun.
func listed(cmd *cobra.Command, begun string, part func(flocklock.Status) string) []string {
	dir, err := lockDir(cmd)
	if err != nil {
		return nil
	}
	locks, _ := dir.List() // what can be looked at
	var parts []string
	for _, s := range locks {
		if strings.HasPrefix(part(s), begun) {
			parts = append(parts, part(s))
		}
	}
	slices.Sort(parts)
	return slices.Compact(parts)
}

// proposeVariables proposes the environment's variables by their names.
func proposeVariables(_ *cobra.Command, _ []string, begun string) ([]string, cobra.ShellCompDirective) {
	var names []string
	for _, variable := range os.Environ() {
		name, _, _ := strings.Cut(variable, "=")
		if isVariable(name) && strings.HasPrefix(name, begun) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, cobra.ShellCompDirectiveNoFileComp
}

// isVariable reports whether a shell could have made a variable of that name.
func isVariable(name string) bool {
	for i, c := range []byte(name) {
		letter := c == '_' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}
