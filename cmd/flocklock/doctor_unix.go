//go:build unix

// Owners and modes, as Unix has them.

package main

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/flocklock/flocklock"
	"golang.org/x/sys/unix"
)

// sameProcessExcludes says whether a process may try a lock that it holds. With
// fcntl locks that would drop it.
const sameProcessExcludes = runtime.GOOS != "solaris" && runtime.GOOS != "aix"

// modes looks at who may do what with the directory.
func (d *doctor) modes(context.Context) []finding {
	dir, files, err := d.infos()
	if err != nil {
		return d.unusable(err, nil)
	}
	return slices.Concat(d.writable(dir, files), d.above(), d.ownership(dir))
}

// infos are those of the directory and of the files in it.
func (d *doctor) infos() (dir fs.FileInfo, files []fs.FileInfo, err error) {
	if dir, err = os.Stat(string(d.dir)); err != nil {
		return nil, nil, err
	}
	entries, err := os.ReadDir(string(d.dir))
	if err != nil {
		return nil, nil, err
	}
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil && info.Mode().IsRegular() {
			files = append(files, info)
		}
	}
	return dir, files, nil
}

// writable tells of a directory from which everybody, or a group, may remove
// what is not theirs.
func (d *doctor) writable(dir fs.FileInfo, files []fs.FileInfo) []finding {
	const group, others = 0o020, 0o002
	open := dir.Mode().Perm() & (group | others)
	if open == 0 || dir.Mode()&os.ModeSticky != 0 {
		return nil
	}
	path := shellWord(string(d.dir))
	f := finding{
		ID: "directory-writable", Severity: aProblem, Path: string(d.dir),
		What: fmt.Sprintf("Every user may remove any file there: its mode is %04o.", dir.Mode().Perm()),
		Why:  "Who removes the file of a held lock makes room for a second holder.",
		Mend: "chmod o-w " + path,
	}
	if open&others == 0 {
		f.Severity, f.Mend = aNote, "chmod g-w "+path+", unless the group is to use it."
		f.What = fmt.Sprintf("The members of its group may remove any file there: its mode is %04o.", dir.Mode().Perm())
		return []finding{f}
	}
	foreign := func(file fs.FileInfo) bool { return owner(file) != owner(dir) }
	if slices.ContainsFunc(files, foreign) {
		f.Mend = "chmod +t " + path + ", since other users have files there."
		return []finding{f}
	}
	if d.fix && ownFile(dir) {
		if err := os.Chmod(string(d.dir), dir.Mode()&^others); err != nil {
			f.What += " That cannot be changed: " + err.Error() + "."
		} else {
			f.Fixed = true
		}
	}
	return []finding{f}
}

// above tells of a directory from which everybody may move ours away.
func (d *doctor) above() []finding {
	for path := filepath.Dir(d.resolved()); ; path = filepath.Dir(path) {
		info, err := os.Stat(path)
		if err == nil && info.Mode().Perm()&0o002 != 0 && info.Mode()&os.ModeSticky == 0 {
			return []finding{{
				ID: "directory-above-writable", Severity: aNote, Path: path,
				What: fmt.Sprintf("Every user may move away what is in this directory above it: its mode is %04o.", info.Mode().Perm()),
				Why:  "Who does so with the lock directory makes room for a second holder of every lock.",
				Mend: "chmod o-w " + shellWord(path),
			}}
		}
		if path == filepath.Dir(path) {
			return nil
		}
	}
}

// missing tells whether a directory that is not there could be made.
func (d *doctor) missing(context.Context) []finding {
	above := d.existing()
	if err := unix.Access(above, unix.W_OK|unix.X_OK); err != nil {
		f := d.notWritable(&fs.PathError{Op: "mkdir", Path: string(d.dir), Err: err})
		f.Mend = "sudo install -d -o USER -m 700 " + shellWord(string(d.dir)) + ", with the USER of the gateway."
		return []finding{f}
	}
	return nil
}

// ownership tells of a directory of another user. Whether files can be made in
// it is tried elsewhere.
func (d *doctor) ownership(dir fs.FileInfo) []finding {
	if ownFile(dir) {
		return nil
	}
	name := userName(owner(dir))
	return []finding{{
		ID: "directory-of-another", Severity: aNote, Path: string(d.dir),
		What: "The directory belongs to " + name + ", and this is " + userName(uint32(os.Geteuid())) + ".",
		Why:  "What one user leaves there the other may not be able to open or remove.",
		Mend: "Run all gateways as " + name + ", or give each user a directory and each bot one user.",
	}}
}

// unreadable tells of files of locks that the user of the directory cannot
// open. Root can open all, and looks in that user's stead. Records are left to
// the migrator.
func (d *doctor) unreadable() (findings []finding) {
	dir, files, err := d.infos()
	if err != nil {
		return nil // modes has told it
	}
	for _, file := range files {
		path := filepath.Join(string(d.dir), file.Name())
		lockFile := strings.HasSuffix(file.Name(), ".flock")
		if !lockFile && !strings.HasSuffix(file.Name(), ".lock") || canRead(path, file, dir) {
			continue
		}
		f := unreadable(path, file, dir)
		switch {
		case ownFile(file):
			f.Mend = d.fixCommand()
		case owner(file) == 0:
			f.Mend = "sudo " + d.fixCommand()
		}
		if d.fix && ownFile(file) && lockFile && !d.isHeld(file.Name()) {
			if err := share(path, dir); err != nil {
				f.What += " Its mode cannot be changed: " + err.Error() + "."
			} else {
				f.Fixed = true
			}
		}
		findings = append(findings, f)
	}
	return findings
}

func unreadable(path string, file, dir fs.FileInfo) finding {
	name := userName(reader(dir))
	f := finding{
		ID: "file-unreadable", Severity: aProblem, Path: path,
		What: fmt.Sprintf("%s cannot open it: it belongs to %s and its mode is %04o.", name, userName(owner(file)), file.Mode().Perm()),
		Why:  "The lock that it belongs to cannot be taken or judged.",
		Mend: "sudo chown " + name + " " + shellWord(path),
	}
	if owner(file) == 0 && owner(dir) != 0 {
		f.ID = "leftover-of-root"
		f.Why += " A gateway that was once started as root left it."
	}
	return f
}

// reader is the user in whose stead the files are looked at.
func reader(dir fs.FileInfo) uint32 {
	if os.Geteuid() == 0 {
		return owner(dir)
	}
	return uint32(os.Geteuid())
}

func canRead(path string, file, dir fs.FileInfo) bool {
	if os.Geteuid() == 0 && owner(dir) != 0 {
		return owner(file) == owner(dir) || file.Mode().Perm()&0o004 != 0
	}
	return unix.Access(path, unix.R_OK) == nil
}

// isHeld reports whether a lock was held when the doctor looked.
func (d *doctor) isHeld(lockFile string) bool {
	name := strings.TrimSuffix(lockFile, ".flock")
	return slices.ContainsFunc(d.locks, func(s flocklock.Status) bool { return s.Name == name && s.State == flocklock.Held })
}

// share lets every user who may look into the directory open a lock file; root
// gives it to the user of the directory. It does so only with an empty file of
// one name: whoever owns the directory can have put another of our files in its
// place, to have it shown to all.
func share(path string, dir fs.FileInfo) error {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if os.IsPermission(err) && os.Geteuid() != 0 {
		if !onlyOurs(dir) {
			return fmt.Errorf("others may put another file in its place meanwhile: %w", err)
		}
		return unix.Fchmodat(unix.AT_FDCWD, path, 0o644, unix.AT_SYMLINK_NOFOLLOW)
	}
	if err != nil {
		return err
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !info.Mode().IsRegular() || info.Size() != 0 || stat.Nlink != 1 || !ownFile(info) {
		return fmt.Errorf("%s is not an empty file of this user's", path)
	}
	if err := file.Chmod(0o644); err != nil || ownFile(dir) {
		return err
	}
	return file.Chown(int(owner(dir)), -1)
}

// onlyOurs reports whether nobody but this user, and root, can put something else
// in the place of a file in a directory.
func onlyOurs(dir fs.FileInfo) bool { return ownFile(dir) && dir.Mode().Perm()&0o022 == 0 }

// swappable says who could put something else in the place of a directory that
// this user makes in another; "" where that is nobody but root.
func swappable(dir fs.FileInfo) string {
	switch {
	case !ownFile(dir) && owner(dir) != 0:
		return userName(owner(dir))
	case dir.Mode().Perm()&0o022 != 0 && dir.Mode()&os.ModeSticky == 0:
		return "who may write to the directory"
	}
	return ""
}

// owner is the user that a file belongs to.
func owner(info fs.FileInfo) uint32 {
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		return stat.Uid
	}
	return uint32(os.Geteuid())
}

// ownFile reports whether a file belongs to this user.
func ownFile(info fs.FileInfo) bool { return owner(info) == uint32(os.Geteuid()) }

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "user " + id
}
