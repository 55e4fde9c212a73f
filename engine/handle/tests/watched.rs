//! An agent that tests can look into while it runs.

use std::cell::RefCell;
use std::rc::{Rc, Weak};
use std::time::Instant;

use crate::app::{
    Application, Connection, ConnectionError, ConnectionKey, Context, Dir, StreamId, VarInt,
};
use crate::handle::Agent;

/// See the module.
pub(super) struct Watched(Rc<RefCell<Agent>>);

thread_local! {
    static LAST: RefCell<Weak<RefCell<Agent>>> = const { RefCell::new(Weak::new()) };
}

impl Watched {
    pub(super) fn new(agent: Agent) -> Self {
        let agent = Rc::new(RefCell::new(agent));
        LAST.set(Rc::downgrade(&agent));
        Self(agent)
    }

    /// The one that was made last by this thread.
    pub(super) fn last_made() -> Weak<RefCell<Agent>> {
        LAST.take()
    }
}

macro_rules! pass_on {
    ($($name:ident($($argument:ident: $kind:ty),*)),* $(,)?) => {$(
        fn $name(&mut self, $($argument: $kind),*) {
            self.0.borrow_mut().$name($($argument),*);
        }
    )*};
}

impl Application for Watched {
    pass_on! {
        connected(connection: &mut Connection<'_>),
        handshake_done(connection: &mut Connection<'_>),
        opened(connection: &mut Connection<'_>, dir: Dir),
        readable(connection: &mut Connection<'_>, id: StreamId),
        writable(connection: &mut Connection<'_>, id: StreamId),
        finished(connection: &mut Connection<'_>, id: StreamId),
        stopped(connection: &mut Connection<'_>, id: StreamId, code: VarInt),
        available(connection: &mut Connection<'_>, dir: Dir),
        datagrams(connection: &mut Connection<'_>),
        datagrams_unblocked(connection: &mut Connection<'_>),
        ending(connection: &mut Connection<'_>),
        closed(key: ConnectionKey, reason: &ConnectionError),
        run(shard: &mut Context<'_>),
        page_faults(shard: &mut Context<'_>),
        stop(shard: &mut Context<'_>),
    }

    fn timeout(&self) -> Option<Instant> {
        self.0.borrow().timeout()
    }

    fn every_turn(&self) -> bool {
        self.0.borrow().every_turn()
    }

    fn is_finished(&self) -> bool {
        self.0.borrow().is_finished()
    }
}
