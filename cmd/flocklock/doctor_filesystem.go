// The file system of the directory, and what cleans it.

package main

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// existing is the directory, or the nearest above it that exists.
func (d *doctor) existing() string {
	for path := string(d.dir); ; path = filepath.Dir(path) {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) || path == filepath.Dir(path) {
			return path
		}
	}
}

// overlay is what the layers of a container's image are made one by.
const overlay = "an overlay file system"

// fileSystem tells of one on which locks may exclude the processes of this host
// or of one container only, or none.
func (d *doctor) fileSystem(context.Context) []finding {
	path := d.existing()
	kind := sharedFileSystem(path)
	if kind == "" {
		return nil
	}
	f := finding{
		ID: "file-system", Severity: aNote, Path: path,
		What: "The directory is on " + kind + ".",
		Why:  "Locks there may exclude the processes of one host, or of one container, only.",
		Mend: "HERMES_GATEWAY_LOCK_DIR=DIR for all gateways, with a DIR on a local disk, unless all of them run on this host.",
	}
	switch kind {
	case "NFS":
		f.Why = "Locks there exclude other hosts only where the server supports that, and a server that does not answer stops every gateway."
	case overlay:
		f.Why = "Of a container that is its own layer, which no other has: the locks exclude the processes of this one only."
		f.Mend = "HERMES_GATEWAY_LOCK_DIR=DIR for all gateways, with a DIR on a volume that all containers mount, unless all of them run in this one."
	}
	return []finding{f}
}

// cleaner tells of what removes files that nobody has used for a while, as a
// lock file looks like while it is held.
func (d *doctor) cleaner(context.Context) []finding {
	path := d.resolved()
	const why = "To who cleans up, the file of a lock that is held for long looks unused. When it is removed, a second gateway can start."
	mend := "HERMES_GATEWAY_LOCK_DIR=DIR for all gateways, with a DIR that is kept, such as ~/.local/state/hermes/gateway-locks."
	if line := ageingLine(path); line != "" {
		return []finding{{
			ID: "temporary-cleaned", Severity: aProblem, Path: string(d.dir),
			What: "systemd-tmpfiles removes old files there: " + line + ".", Why: why,
			Mend: mend + " Or a line x " + path + " in a file of /etc/tmpfiles.d.",
		}}
	}
	for _, tmp := range temporaryDirs() {
		if within(path, tmp) {
			return []finding{{
				ID: "temporary", Severity: aNote, Path: string(d.dir),
				What: "The directory is below " + tmp + ", which many systems clean.", Why: why, Mend: mend,
			}}
		}
	}
	return nil
}

// resolved is the path of the directory without symbolic links, as a cleaner
// comes by it.
func (d *doctor) resolved() string {
	exists := d.existing()
	real, err := filepath.EvalSymlinks(exists)
	if err != nil {
		return string(d.dir)
	}
	rest, err := filepath.Rel(exists, string(d.dir))
	if err != nil {
		return string(d.dir)
	}
	return filepath.Join(real, rest)
}

// temporaryDirs are the directories for temporary files, without links.
func temporaryDirs() (dirs []string) {
	for _, dir := range []string{os.TempDir(), "/tmp", "/var/tmp"} {
		if real, err := filepath.EvalSymlinks(dir); err == nil {
			dirs = append(dirs, real)
		}
	}
	return dirs
}

// within reports whether a path is a directory or below it.
func within(path, dir string) bool {
	rest, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rest)
}
