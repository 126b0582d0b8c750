/*
 * flocklock's protocol: new processes that acquire, check, release and migrate, old
 * gateways, somebody who removes lock files, and one crash. What stands between CALL
 * and DONE is one system call with the local work up to the next one, and all orders
 * of these are tried. README.md says which line of Go each of them stands for.
 *
 * Compiled in by -D:
 *
 *	MOVE_ASIDE   a system that cannot exchange two names
 *	LINK         ... nor rename without replacing, so that it links
 *	NEWS, OLDS   so many new processes and old gateways
 *	OLD_ACTS     so often an old one acquires,
 *	PRUNES       so often a lock file is removed
 *	MUTANT_...   a fault, which must be found
 */

#ifndef NEWS
#define NEWS 2
#endif
#ifndef OLDS
#define OLDS 1
#endif
#ifndef OLD_ACTS
#define OLD_ACTS 2
#endif
#ifndef PRUNES
#define PRUNES 2
#endif

/* PIDs: first those of the new processes, then those of the old gateways. */
#define PRUNER (NEWS + OLDS)
#define PROBER (PRUNER + 1) /* a new process that starts when all others have ended */
#define NOBODY (PROBER + 1) /* no process has this one */
#define PROCS  (NOBODY + 1)

#define isOld(p) ((p) >= NEWS && (p) < PRUNER)
#define isNew(p) ((p) < NEWS || (p) == PROBER)

bool alive[PROCS];
bool done[PROCS];
bool dying; /* one that was killed has not gone yet: nobody else may move */
bool own[PROCS];

/* ---- the lock file ---- */

byte lockFile;     /* what stands at its path; 0: nothing */
byte fd[PROCS];    /* the lock file that a process has open */
bool holds[PROCS]; /* and whether it has the kernel's lock on that */

#define isOpen(g)      (isOpenBy(0, g) || isOpenBy(1, g) || isOpenBy(2, g) || isOpenBy(3, g) || isOpenBy(4, g))
#define isOpenBy(p, g) (fd[p] == g)
#define isHeld         (isHeldBy(0) || isHeldBy(1) || isHeldBy(2) || isHeldBy(3) || isHeldBy(4))
#define isHeldBy(p)    (holds[p] && fd[p] == lockFile)

/* ---- the record ---- */

/* Where a record may stand: at its path, and beside it. */
#define RECORD 0
#define TMP    1
#define ASIDE  2
byte at[3]; /* the file that stands there; 0: nothing */

/* A file, by the number of its inode. */
#define FILES 5
byte text[FILES + 1];
byte names[FILES + 1]; /* whose record it is; of an empty file: who created it */

#define NONE   0 /* there is no such file */
#define EMPTY  1 /* created, and perhaps about to be written */
#define OURS   2
#define LEGACY 3 /* an old gateway's, without its start time */
#define DATED  4 /* ... with its start time */

#define isLegacy(t) ((t) == LEGACY || (t) == DATED)

/* What a process knows of files. No two records have the same bytes, but an empty
 * file can have the inode of another one that is gone. */
byte judged[PROCS];
byte seen[PROCS];    /* the text that judged had */
bool another[PROCS]; /* the inode of judged was emptied since, or is another file's by now */
#ifdef MUTANT_PATIENCE_IN_ALL
byte since[PROCS]; /* the empty file that stood at the path when the waiting began */
#endif
byte mine[PROCS];    /* the file that it made; of an old one: that it has open for writing */

#ifdef MUTANT_SAME_EMPTY /* as long as content.same did not compare times */
#define same(where) (at[where] == judged[me] && text[at[where]] == seen[me])
#else
#define same(where) (at[where] == judged[me] && text[at[where]] == seen[me] && !another[me])
#endif

/* ---- what explains two owners ---- */

/* How the record of a process left its path, where the old protocol's own races
 * are to blame, as in fleet_test.go. */
#define KEPT       0
#define BLIND      1 /* an old gateway removed or wrote over what it had not judged */
#define UNFINISHED 2 /* an old gateway removed it, and had judged it before it was written */
#define SLOW       3 /* it was not written within writerPatience */
#define GAP        4 /* Release removed it in place of its own, which had been removed blindly */
byte lost[PROCS];
bool slow[PROCS];     /* an old gateway takes longer than writerPatience to write */
bool stranded[PROCS]; /* its record was put back after it had given the lock up */

#define explains(p) (isOld(p) && lost[p] != KEPT || isNew(p) && lost[p] == BLIND)

hidden byte f, p, last;
hidden byte number[FILES + 1], newText[FILES + 1], newNames[FILES + 1];

#define allDone (done[0] && done[1] && done[2] && done[3])

inline leave() {
	done[me] = true;
	dying = false
}

/* owns: an acquire returns. */
inline owns() {
	own[me] = true;
	stranded[me] = false;
	if
	:: mine[me] != 0 && at[RECORD] == mine[me] -> lost[me] = KEPT
	:: else
	fi;
	p = 0;
	do
	:: p < PROCS ->
		if
		:: p != me && own[p] ->
			assert(!(isNew(me) && isNew(p)));
			assert(isOld(me) && isOld(p) || explains(me) || explains(p))
		:: else
		fi;
		p++
	:: else -> break
	od
}

/* arrived: one of ours has put a file at the record's path. */
inline arrived() {
	p = names[at[RECORD]];
	if
	:: text[at[RECORD]] == OURS && p == me && !own[me] -> lost[me] = KEPT
	:: isLegacy(text[at[RECORD]]) && alive[p] && !own[p] && mine[p] != at[RECORD] -> stranded[p] = true
	:: else
	fi
}

/* taken: an old gateway is about to take a file off the record's path, blindly. */
inline taken() {
	if
	:: at[RECORD] == 0 || at[RECORD] == judged[me] && text[at[RECORD]] == seen[me]
	:: at[RECORD] == judged[me] && seen[me] == EMPTY -> lost[names[at[RECORD]]] = UNFINISHED
	:: else -> lost[names[at[RECORD]]] = BLIND
	fi
}

/* tooSlow: a new process has waited for writerPatience for an empty file to be
 * written. */
inline tooSlow(file) {
	if
	:: isOld(names[file]) && mine[names[file]] == file && text[file] == EMPTY -> slow[names[file]] = true
	:: else
	fi
}

/* collect forgets the files that nobody knows, and numbers the others anew, so that
 * equal states look equal. */
inline collect() {
	last = 0;
	f = 0;
	do
	:: f <= FILES -> number[f] = 0; f++
	:: else -> break
	od;
	renumber(at[RECORD]);
	renumber(at[TMP]);
	renumber(at[ASIDE]);
	p = 0;
	do
	:: p < PROCS ->
		renumber(mine[p]);
		renumber(judged[p]);
#ifdef MUTANT_PATIENCE_IN_ALL
		renumber(since[p]);
#endif
		p++
	:: else -> break
	od;
	f = 1;
	do
	:: f <= FILES ->
		newText[number[f]] = text[f];
		newNames[number[f]] = names[f];
		f++
	:: else -> break
	od;
	f = 1;
	do
	:: f <= FILES ->
		if
		:: f <= last -> text[f] = newText[f]; names[f] = newNames[f]
		:: else -> text[f] = NONE; names[f] = 0
		fi;
		f++
	:: else -> break
	od
}

inline renumber(file) {
	if
	:: file != 0 && number[file] == 0 -> last++; number[file] = last
	:: else
	fi;
	file = number[file]
}

/* newFile makes f a new file, of an inode that nobody knows. */
inline newFile(content, owner) {
	f = 1;
	do
	:: text[f] != NONE -> f++
	:: else -> break
	od;
	assert(f <= FILES);
	text[f] = content;
	names[f] = owner
}

/* ---- system calls ---- */

/* A process is one atomic sequence, and gives way before each system call. */
chan way = [0] of { bit };
#define GIVE_WAY way!0; if :: !alive[me] -> goto gone :: alive[me] && !dying fi
#define CALL     GIVE_WAY; d_step { skip;
#define DONE     ; skip }
#define LOCAL d_step { skip;
#define END   ; skip }

inline unlink(where) {
	CALL
		at[where] = 0;
		collect()
	DONE
}

/* look remembers what stands at the record's path, as what is judged. */
inline look() {
	CALL
		judged[me] = at[RECORD];
		saw = text[at[RECORD]];
		seen[me] = saw;
		another[me] = false;
		collect()
	DONE
}

inline forget() {
	judged[me] = 0;
	seen[me] = NONE;
	another[me] = false;
	collect()
}

/* ---- new processes: the kernel's lock ---- */

/* lock leaves locked true if it took the lock. */
inline lock() {
	do
	:: true ->
		CALL /* open, with O_CREAT */
			if
			:: lockFile == 0 ->
				f = 1;
				do
				:: isOpen(f) -> f++
				:: else -> break
				od;
				lockFile = f
			:: else
			fi;
			fd[me] = lockFile
		DONE;
		tryLock();
		if
		:: !locked -> break
		:: else ->
			verify();
			if
			:: locked -> break
			:: else
			fi
		fi
	od
}

inline tryLock() {
	CALL
		p = 0;
		do
		:: p < PROCS && !(holds[p] && fd[p] == fd[me]) -> p++
		:: else -> break
		od;
		locked = (p == PROCS);
		holds[me] = locked;
		if
		:: !locked -> fd[me] = 0
		:: else
		fi
	DONE
}

/* verify unlocks where the path does not name the file any more. */
inline verify() {
#ifndef MUTANT_NO_VERIFY
	CALL
		locked = (lockFile == fd[me])
	DONE;
	if
	:: !locked -> unlock()
	:: else
	fi
#else
	skip
#endif
}

inline unlock() {
	CALL
		holds[me] = false;
		fd[me] = 0
	DONE
}

/* ---- new processes: files beside the record ---- */

/* place renames without replacing. */
inline place(from) {
	CALL
		placed = (at[RECORD] == 0);
#ifdef MUTANT_PLACE_REPLACES
		placed = true;
#endif
		if
		:: placed ->
			at[RECORD] = at[from];
#ifndef LINK
			at[from] = 0;
#endif
			arrived()
		:: else
		fi
	DONE;
#ifdef LINK
	if
	:: placed -> unlink(from)
	:: else
	fi
#endif
}

/* writeBeside makes mine[me] a finished file at TMP, unless owned says that a living
 * gateway's record stands there and has to stay. */
inline writeBeside() {
	do
	:: true ->
		CALL /* open, with O_CREAT and O_EXCL */
			exists = (at[TMP] != 0);
			if
			:: exists
			:: else ->
				if
				:: converting -> newFile(EMPTY, names[judged[me]])
				:: else -> newFile(EMPTY, me)
				fi;
				at[TMP] = f;
				mine[me] = f;
				collect()
			fi
		DONE;
		if
		:: exists ->
			makeAllWay();
			if
			:: owned -> break
			:: else
			fi
		:: else ->
			CALL
				if
				:: converting -> text[mine[me]] = DATED
				:: else -> text[mine[me]] = OURS
				fi
			DONE;
			break
		fi
	od
}

/* makeAllWay: what is aside first, for TMP tells of it. */
inline makeAllWay() {
#ifdef MOVE_ASIDE
	makeWay(ASIDE);
#endif
	if
	:: owned
	:: else -> makeWay(TMP)
	fi
}

/* makeWay removes what a crash left, or puts a living gateway's record back. */
inline makeWay(side) {
	do
	:: true ->
		CALL
			leftText = text[at[side]];
			leftNames = names[at[side]]
		DONE;
		if
		:: leftText != EMPTY -> break
		:: else ->
			GIVE_WAY;
			if
			:: text[at[side]] != EMPTY /* look again */
			:: true ->
				LOCAL
					if
					:: isOld(leftNames) -> lost[leftNames] = SLOW
					:: else
					fi
				END;
				break
			fi
		fi
	od;
	living = false;
	if
	:: isLegacy(leftText) ->
		CALL
			living = alive[leftNames]
		DONE
	:: else
	fi;
#ifdef MUTANT_SIDE_UNJUDGED
	living = false;
#endif
	if
	:: leftText == NONE
	:: leftText != NONE && !living -> unlink(side)
	:: leftText != NONE && living ->
		place(side);
		if
		:: placed
		:: else -> restore(side)
		fi
	fi;
	LOCAL leftText = NONE; leftNames = 0; living = false; placed = false END
}

/* restore puts it back over what stands at the path, but not over another's. */
inline restore(side) {
	CALL
		foundText = text[at[RECORD]];
		foundNames = names[at[RECORD]]
	DONE;
	living = false;
#ifndef MUTANT_RESTORE_UNJUDGED
	if
	:: isLegacy(foundText) ->
		CALL
			living = alive[foundNames]
		DONE
	:: else
	fi;
#endif
	if
	:: living && foundNames == leftNames -> unlink(side)
#ifndef MUTANT_RESTORE_UNJUDGED
	:: living && foundNames != leftNames || foundText == EMPTY -> owned = true
#endif
	:: else ->
		CALL /* rename; of two names of one file it does nothing */
			if
			:: at[side] == at[RECORD]
			:: else ->
				at[RECORD] = at[side];
				at[side] = 0;
				arrived();
				collect()
			fi
		DONE
	fi;
	LOCAL foundText = NONE; foundNames = 0 END
}

/* ---- new processes: replacing what was judged ---- */

/* replace leaves placed true if mine[me] now stands in the place of what was judged. */
inline replace() {
#ifndef MOVE_ASIDE
	exchange();
	if
	:: !placed
	:: else ->
		inspect(TMP);
		if
		:: matches -> unlink(TMP)
		:: else ->
			exchange(); /* back */
			if
			:: !placed -> place(TMP)
			:: else
			fi;
			placed = false
		fi
	fi;
#else
	moveAside();
	if
	:: !placed
	:: else ->
		inspect(ASIDE);
		if
		:: matches ->
#ifdef MUTANT_ASIDE_UNTOLD
			place(TMP);
			unlink(ASIDE)
#else
			unlink(ASIDE);
			place(TMP)
#endif
		:: else ->
#ifndef MUTANT_NOT_PUT_BACK
			place(ASIDE);
			if
			:: !placed -> makeWay(ASIDE)
			:: else
			fi;
#endif
			placed = false
		fi
	fi;
#endif
	matches = false
}

inline exchange() {
	CALL
		placed = (at[RECORD] != 0);
		if
		:: placed ->
			f = at[RECORD];
			at[RECORD] = at[TMP];
			at[TMP] = f;
			arrived()
		:: else
		fi
	DONE
}

/* moveAside does not move over a living gateway's record. */
inline moveAside() {
	CALL
		leftText = text[at[ASIDE]];
		leftNames = names[at[ASIDE]]
	DONE;
	living = false;
	if
	:: isLegacy(leftText) ->
		CALL
			living = alive[leftNames]
		DONE
	:: else
	fi;
	placed = false;
	if
	:: living -> owned = true
	:: else ->
		CALL /* rename; of two names of one file it does nothing */
			placed = (at[RECORD] != 0);
			if
			:: placed && at[RECORD] != at[ASIDE] ->
				at[ASIDE] = at[RECORD];
				at[RECORD] = 0;
				collect()
			:: else
			fi
		DONE
	fi;
	LOCAL leftText = NONE; leftNames = 0; living = false END
}

/* inspect looks whether what was taken off the path is what was judged. */
inline inspect(where) {
	CALL
		matches = same(where);
#ifdef MUTANT_NOT_INSPECTED
		matches = true;
#endif
		p = names[at[where]];
		if
		:: matches && isOld(p) && mine[p] == at[where] && slow[p] -> lost[p] = SLOW
		:: else
		fi
	DONE
}

/* ---- new processes: claim ---- */

/* waitForWriter: an empty file stands at the path. It leaves patient true if that
 * changed meanwhile. */
inline waitForWriter() {
	GIVE_WAY;
	if
#ifdef MUTANT_PATIENCE_IN_ALL /* as long as it was not counted for each file */
	:: hurried -> patient = false
	:: !hurried ->
		LOCAL
			hurried = true;
			patient = false;
			if
			:: since[me] == judged[me] && !another[me] -> tooSlow(judged[me])
			:: else
			fi
		END
#else
	:: true ->
		LOCAL
			patient = false;
			tooSlow(judged[me])
		END
#endif
#ifndef MUTANT_NO_PATIENCE
	:: at[RECORD] != judged[me] || text[judged[me]] != EMPTY || another[me] -> patient = true
#endif
	fi
}

/* startWaiting: the time of writerPatience begins. */
inline startWaiting() {
#ifdef MUTANT_PATIENCE_IN_ALL
	LOCAL
		hurried = false;
		if
		:: text[at[RECORD]] == EMPTY -> since[me] = at[RECORD]
		:: else -> since[me] = 0
		fi;
		skip
	END
#else
	skip
#endif
}

/* claim leaves owned true if an old gateway owns the path. Else mine[me] stands there. */
inline claim() {
	startWaiting();
	fresh = false;
	do
	:: true ->
		if
		:: !fresh && !blocked ->
			writeBeside();
			blocked = owned;
			owned = false;
			fresh = !blocked
		:: else
		fi;
		placed = false;
		if
		:: fresh -> place(TMP)
		:: else
		fi;
		if
		:: placed -> fresh = false
		:: else ->
			look();
			judge();
			if
			:: saw == NONE && blocked || living -> owned = true; break
			:: saw == NONE && !blocked
			:: saw != NONE && !living ->
				contested = contested || saw != OURS;
				patient = false;
				if
				:: saw == EMPTY -> waitForWriter()
				:: else
				fi;
				if
				:: patient
				:: !patient && blocked -> owned = true; break
				:: !patient && !blocked ->
					replace();
					if
					:: owned -> break
					:: else
					fi;
					CALL
						fresh = (at[TMP] == mine[me])
					DONE
				fi
			fi
		fi;
		if
		:: placed && !contested -> break
		:: placed && contested ->
			CALL /* settled: the last of its looks */
				current = (at[RECORD] == mine[me])
			DONE;
			if
			:: current -> break
			:: else
			fi
		:: else
		fi
	od;
	if
	:: owned -> removeOwn()
	:: else
	fi;
	LOCAL forget() END
}

/* judge, after look. */
inline judge() {
	living = false;
	if
	:: isLegacy(saw) ->
		CALL
			living = alive[names[judged[me]]]
		DONE
#ifdef MUTANT_OURS_LIVE
	:: saw == OURS -> living = true
#endif
	:: else
	fi
}

/* removeOwn removes a file of ours that is still beside the path. */
inline removeOwn() {
	CALL
		fresh = (mine[me] != 0 && at[TMP] == mine[me] && at[ASIDE] == 0)
	DONE;
	if
	:: fresh -> unlink(TMP)
	:: else
	fi
}

/* ---- new processes: migrate ---- */

/* migrate removes a record whose owner is gone, and dates that of one who lives. */
inline migrate() {
	patient = true;
	startWaiting();
	do
	:: patient ->
		look();
		patient = false;
		if
		:: saw == EMPTY -> waitForWriter()
		:: else
		fi
	:: else -> break
	od;
	judge();
	if
	:: saw == NONE || living && saw == DATED
	:: else ->
		converting = living;
		writeBeside();
		if
		:: owned
		:: else ->
			if
			:: converting ->
				CALL /* a last look */
					matches = same(RECORD)
				DONE
			:: else -> matches = true
			fi;
			if
			:: !matches
#ifdef MOVE_ASIDE
			:: matches && converting ->
				CALL /* rename, which replaces */
					at[RECORD] = at[TMP];
					at[TMP] = 0;
					arrived();
					collect()
				DONE
			:: matches && !converting ->
#else
			:: else ->
#endif
				replace();
				if
				:: placed && !converting -> removeRecord()
				:: else
				fi
			fi;
			removeOwn()
		fi
	fi
}

/* removeRecord looks whether it is ours, and removes it. */
inline removeRecord() {
	CALL
		own[me] = false;
		current = (at[RECORD] != 0 && at[RECORD] == mine[me]);
#ifdef MUTANT_RELEASE_UNSEEN
		current = true
#endif
	DONE;
	if
	:: current ->
		CALL
#ifndef MUTANT_RELEASE_UNSEEN
			if
			:: at[RECORD] != 0 && at[RECORD] != mine[me] ->
				assert(lost[me] == BLIND);
				lost[names[at[RECORD]]] = GAP
			:: else
			fi;
#endif
			at[RECORD] = 0;
			collect()
		DONE
	:: else
	fi
}

/* ---- new processes ---- */

#define ACQUIRE      1
#define CHECK        2 /* that the record is still there; else it is put back */
#define RELEASE      3
#define MIGRATE      4 /* the record */
#define MIGRATE_SIDE 5 /* what was left at side */

inline tidy() {
	leftText = NONE; leftNames = 0; foundText = NONE; foundNames = 0;
	owned = false; blocked = false; contested = false; placed = false; matches = false; living = false;
	patient = false; hurried = false; current = false; converting = false; exists = false; fresh = false;
	locked = false; side = 0; saw = NONE
}

/* retire: the old gateways that live on end. */
inline retire() {
	p = NEWS;
	do
	:: p < PRUNER -> alive[p] = false; p++
	:: else -> break
	od
}

/* isStranded: README.md tells how an old gateway that lives can leave its record. */
#define isStranded(f) (isLegacy(text[f]) && alive[names[f]] && stranded[names[f]])

/* follow is what the prober does: perhaps it migrates, in the order of names. Then
 * it must get the lock, and nothing may be left. */
inline follow() {
	if
	:: plan == 0 -> plan = 1; op = MIGRATE_SIDE; side = ASIDE
	:: plan == 0 -> plan = 4; op = ACQUIRE
	:: plan == 1 -> plan = 2; op = MIGRATE_SIDE; side = TMP
	:: plan == 2 -> plan = 3; op = MIGRATE
	:: plan == 3 ->
		assert(at[TMP] == 0 && at[ASIDE] == 0);
		assert(at[RECORD] == 0 || isStranded(at[RECORD]));
		plan = 4;
		op = ACQUIRE
	:: plan == 4 && !owning -> /* refused: an old gateway that lives has left its record */
		assert(isStranded(at[RECORD]));
		retire();
		plan = 5
	:: plan == 5 && !owning -> assert(false)
	:: owning && plan < 6 ->
		assert(at[TMP] == 0 && at[ASIDE] == 0);
		plan = 6;
		op = RELEASE
	:: plan == 6 && !owning ->
		assert(at[RECORD] == 0 && at[TMP] == 0 && at[ASIDE] == 0);
		break
	fi
}

/* act is what is done under the kernel's lock. */
inline act() {
	if
	:: op == CHECK ->
		CALL
			assert(fd[me] == lockFile);
			current = (at[RECORD] != 0 && at[RECORD] == mine[me])
		DONE
	:: else
	fi;
	if
	:: op == CHECK && current
	:: op == ACQUIRE || op == CHECK && !current ->
		claim();
		if
		:: owned
		:: else ->
			owning = true;
			CALL
				owns()
			DONE
		fi
	:: op == RELEASE ->
		owning = false;
#ifdef MUTANT_UNLOCK_FIRST
		CALL
			holds[me] = false
		DONE;
#endif
		removeRecord()
	:: op == MIGRATE -> migrate()
	:: op == MIGRATE_SIDE && side == TMP -> makeAllWay()
	:: op == MIGRATE_SIDE && side == ASIDE -> makeWay(ASIDE)
	fi;
	if
	:: owning -> LOCAL tidy() END
	:: else ->
		CALL
			holds[me] = false;
			fd[me] = 0;
			mine[me] = 0;
			lost[me] = KEPT;
			forget();
			tidy()
		DONE
	fi
}

proctype New(byte me, acts) {
	byte op, side, plan;
	byte saw, leftText, leftNames, foundText, foundNames;
	bool owning, locked, owned, blocked, contested, placed, fresh, exists, matches, living, patient, hurried, current, converting;
	atomic {
	if
	:: me == PROBER -> allDone
	:: else
	fi;
	do
	:: me == PROBER ->
		follow();
		if
		:: owning
		:: else -> lock()
		fi;
		act()
	:: me != PROBER && owning ->
		if
		:: op = RELEASE
		:: op != CHECK -> op = CHECK
		fi;
		act()
	:: me != PROBER && !owning && acts > 0 ->
		acts--;
		lock();
		if
		:: !locked
		:: locked ->
			if
			:: op = ACQUIRE
			:: op = MIGRATE
			:: at[TMP] != 0 -> op = MIGRATE_SIDE; side = TMP
			:: at[ASIDE] != 0 -> op = MIGRATE_SIDE; side = ASIDE
			fi;
			act()
		fi
	:: me != PROBER && !owning -> break
	od;
gone:	skip;
	LOCAL tidy(); op = 0; plan = 0; acts = 0; owning = false; leave() END
	}
}

/* ---- old gateways ---- */

/* What differs between their versions is chosen when it first matters. */
#define UNKNOWN 0
#define YES     1
#define NO      2

inline oldTidy() {
	early = UNKNOWN; knows = UNKNOWN; record = NONE; owner = 0; saw = NONE; living = false; stale = false; again = false; owning = false
}

/* oldAcquire looks, judges, removes what it takes for stale, and creates. */
inline oldAcquire() {
	look();
	owner = names[judged[me]];
	if
	:: saw == NONE
	:: saw == EMPTY ->
		isEarly();
		stale = (early == NO)
	:: saw >= OURS ->
		isItsOwn();
		if
		:: again -> rewrite()
		:: else ->
			CALL
				living = alive[owner]
			DONE;
			stale = !living
		fi
	fi;
	if
	:: stale -> remove()
	:: else
	fi;
	owning = again;
	if
	:: again || living
	:: else ->
		create();
		if
		:: owning -> write()
		:: else
		fi
	fi;
	LOCAL
		if
		:: own[me] && !owning -> own[me] = false; stranded[me] = true /* it looked while its record was off its path */
		:: else
		fi;
		forget();
		owner = 0; saw = NONE; stale = false; living = false; again = false
	END
}

/* isEarly: whether it is of the first version, which leaves an empty file where it
 * is, and writes into its own record. */
inline isEarly() {
	if
	:: early == UNKNOWN -> early = YES
	:: early == UNKNOWN -> early = NO
	:: early != UNKNOWN
	fi
}

/* isItsOwn: but for the latest, none knows its record by the PID alone. */
inline isItsOwn() {
	if
	:: owner != me || saw < OURS -> again = false
	:: owner == me && saw == record -> again = true
	:: owner == me && saw > OURS && saw != record ->
		if
		:: knows == UNKNOWN -> knows = YES
		:: knows == UNKNOWN -> knows = NO
		:: knows != UNKNOWN
		fi;
		again = (knows == YES);
		if
		:: again
		:: else -> stranded[me] = true
		fi
	fi
}

/* remove takes off the path whatever stands there by now. */
inline remove() {
	CALL
		taken();
		at[RECORD] = 0;
		forget()
	DONE
}

/* goneEmpty: a new process knows an empty file that is gone. */
#define goneEmpty(p) (isNew(p) && seen[p] == EMPTY && !another[p] && isGone(judged[p]))
#define isGone(f) (at[RECORD] != f && at[TMP] != f && at[ASIDE] != f && !isWritten(f))
#define isWritten(f) (mine[0] == f || mine[1] == f || mine[2] == f)

/* create makes an empty file, whose inode may be that of one that is gone. */
inline create() {
	GIVE_WAY;
	if
	:: at[RECORD] != 0 -> owning = false
	:: at[RECORD] == 0 -> LOCAL newFile(EMPTY, me); created() END
	:: at[RECORD] == 0 && goneEmpty(0) -> LOCAL f = judged[0]; reuse(); created() END
	:: at[RECORD] == 0 && goneEmpty(1) -> LOCAL f = judged[1]; reuse(); created() END
	fi
}

inline created() {
	at[RECORD] = f;
	mine[me] = f;
	lost[me] = KEPT;
	slow[me] = false;
	owning = true;
	forget()
}

/* reuse: the inode f is another file's from now on. */
inline reuse() {
	text[f] = EMPTY;
	names[f] = me;
	p = 0;
	do
	:: p < PROCS ->
		if
		:: judged[p] == f && isNew(p) -> another[p] = true
		:: judged[p] == f && !isNew(p) -> judged[p] = 0
		:: else
		fi;
		p++
	:: else -> break
	od
}

inline write() {
	if
	:: record == NONE -> record = LEGACY
	:: record == NONE -> record = DATED
	:: record != NONE
	fi;
	CALL
		text[mine[me]] = record;
		mine[me] = 0;
		slow[me] = false;
		collect();
		owns()
	DONE
}

/* rewrite writes its own record anew, over whatever stands at the path by now. */
inline rewrite() {
	isEarly();
	if
	:: early == YES ->
		CALL /* open, with O_CREAT */
			if
			:: at[RECORD] == 0 -> newFile(EMPTY, me); at[RECORD] = f
			:: else
			fi;
			mine[me] = at[RECORD]
		DONE;
		CALL /* truncate */
			if
			:: at[RECORD] == mine[me] -> taken(); lost[me] = KEPT
			:: else
			fi;
			p = 0;
			do
			:: p < PROCS ->
				if
				:: isNew(p) && mine[p] == mine[me] -> mine[p] = 0
				:: isNew(p) && judged[p] == mine[me] -> another[p] = true
				:: else
				fi;
				p++
			:: else -> break
			od;
			text[mine[me]] = EMPTY;
			names[mine[me]] = me;
			slow[me] = false
		DONE;
		write()
	:: else ->
		CALL /* rename, which replaces */
			taken();
			newFile(record, me);
			at[RECORD] = f;
			lost[me] = KEPT;
			forget();
			owns()
		DONE
	fi
}

inline oldRelease() {
	owning = false;
	CALL
		own[me] = false;
		lost[me] = KEPT;
		judged[me] = at[RECORD];
		saw = text[at[RECORD]];
		seen[me] = saw;
		owner = names[at[RECORD]]
	DONE;
	isItsOwn();
	if
	:: again -> remove()
	:: else -> LOCAL forget() END
	fi;
	LOCAL owner = 0; saw = NONE; again = false END
}

proctype Old(byte me) {
	byte early, knows, record, owner, saw, tries;
	bool owning, living, stale, again;
	atomic {
	do
	:: tries < OLD_ACTS -> tries++; oldAcquire()
	:: owning -> oldRelease()
	:: !owning -> break
	od;
gone:	skip;
	LOCAL oldTidy(); tries = 0; leave() END
	}
}

/* ---- others ---- */

/* Prune removes the lock file, under the lock, or as rm does where nobody holds it. */
proctype Prune(byte me) {
	byte tries;
	bool locked;
	atomic {
	do
	:: tries < PRUNES ->
		GIVE_WAY;
		tries++;
		if
		:: lockFile == 0
		:: lockFile != 0 && !isHeld -> lockFile = 0
		:: lockFile != 0 ->
			fd[me] = lockFile; /* open, without O_CREAT */
			tryLock();
			if
			:: locked -> verify()
			:: else
			fi;
			if
			:: locked ->
				CALL
					lockFile = 0
				DONE;
				unlock()
			:: else
			fi;
			locked = false
#ifdef MUTANT_PRUNE_HELD
		:: lockFile = 0
#endif
		fi
	:: true -> break
	od;
gone:	skip;
	LOCAL tries = 0; locked = false; leave() END
	}
}

inline kill(victim) {
	d_step {
		!done[victim] ->
		assert(at[ASIDE] == 0 || at[TMP] != 0); /* which tells of it */
		alive[victim] = false;
		dying = true;
		own[victim] = false;
		lost[victim] = KEPT;
		slow[victim] = false;
		holds[victim] = false;
		fd[victim] = 0;
		mine[victim] = 0;
		judged[victim] = 0;
		seen[victim] = NONE;
		another[victim] = false;
		collect();
		skip
	}
}

/* Kill kills at most one. The new processes do the same, so that it is enough to
 * kill the first; so do the old ones. To kill the pruner is to let it unlock. */
proctype Kill() {
end:	if
#ifndef NOKILL
	:: kill(0)
	:: kill(NEWS)
#endif
	:: false
	fi
}

/* Clock takes what a process gives way with. */
proctype Clock() {
end:	do
	:: way?0
	od
}

init {
	byte me;
	atomic {
		if
		:: at[RECORD] = 0
#ifndef ONEINIT
		:: at[RECORD] = 1; text[1] = LEGACY; names[1] = NOBODY
		:: at[RECORD] = 1; text[1] = EMPTY; names[1] = NOBODY
#endif
		fi;
		do
		:: me < NOBODY -> alive[me] = true; me++
		:: else -> break
		od;
		run New(PROBER, 0);
		run Clock();
		run Kill();
		run Prune(PRUNER);
		if
		:: run New(0, 1); run New(1, 2)
		:: run New(0, 2); run New(1, 1)
		fi;
		me = NEWS;
		do
		:: me < PRUNER -> run Old(me); me++
		:: else -> break
		od;
		me = 0
	}
}
