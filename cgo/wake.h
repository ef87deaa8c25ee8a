/*
** How this process's replicators are woken.
*/
#ifndef VERNEUIL_WAKE_H
#define VERNEUIL_WAKE_H

/* Makes the eventfd that all of them sleep on, nonblocking; -1 if that fails. A forked
** child does not use it: its token is another. */
int spoolWakeOwn(void);

#endif
