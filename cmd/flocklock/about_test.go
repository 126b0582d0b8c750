package main

import (
	"os"
	"runtime/debug"
	"strings"
	"testing"
)

// TestExitCodes: the README has them as --help has.
func TestExitCodes(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "\n\n"+exitCodes+"\n\n") {
		t.Errorf("README.md does not have:\n%s", exitCodes)
	}
	if !strings.HasSuffix(newRoot().Long, "\n\n"+exitCodes) {
		t.Errorf("flocklock --help does not have:\n%s", exitCodes)
	}
}

func TestVersion(t *testing.T) {
	setting := func(key, value string) debug.BuildSetting { return debug.BuildSetting{Key: key, Value: value} }
	for want, info := range map[string]debug.BuildInfo{
		"(devel)": {},
		"v1.2.3":  {Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{setting("GOOS", "linux")}},
		"v1.2.3, revision 5ba0": {
			Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{setting("vcs.revision", "5ba0"), setting("vcs.modified", "false")},
		},
		"(devel), revision 5ba0 with changes": {Settings: []debug.BuildSetting{setting("vcs.modified", "true"), setting("vcs.revision", "5ba0")}},
	} {
		if got := versionOf(&info); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
