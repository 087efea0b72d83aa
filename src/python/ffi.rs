//! The only `unsafe` of the Python layer: calls that pyo3 does not wrap, behind safe functions.
//!
//! Owns: coroutine stepping (`PyIter_Send`), contexts, the `am_send` slot, giving the GIL away while
//! the runtime is idle, and [`GilCell`]. Knows nothing of HTTP or of workers.
#![expect(
    unsafe_code,
    reason = "this module is where the interpreter's C API is wrapped"
)]

use pyo3::exceptions::{PyStopIteration, PyTypeError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple, PyType};
use pyo3::{PyClass, ffi};
use std::cell::{Cell, Ref, RefCell, RefMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use tokio::io::unix::AsyncFd;
use tokio::io::{Interest, ReadBuf};

/// A `RefCell` that only a thread attached to the interpreter can reach.
///
/// The `Python` token proves that the GIL is held (a free-threaded interpreter switches it on for a
/// module that does not opt out), so the borrow flag is never raced. A borrow that
/// is alive while other Python code runs makes a second one panic, never undefined.
#[derive(Debug, Default)]
pub(crate) struct GilCell<T>(RefCell<T>);

// SAFETY: every access takes a `Python` token, and with the GIL only one thread can hold one at a
// time; the guards are not `Send`, so they stay on the thread that made them.
unsafe impl<T: Send> Sync for GilCell<T> {}

impl<T> GilCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(RefCell::new(value))
    }

    #[inline]
    pub(crate) fn borrow<'a>(&'a self, _py: Python<'a>) -> Ref<'a, T> {
        self.0.borrow()
    }

    #[inline]
    pub(crate) fn borrow_mut<'a>(&'a self, _py: Python<'a>) -> RefMut<'a, T> {
        self.0.borrow_mut()
    }
}

/// What a coroutine did when it was resumed.
pub(crate) enum Sent<'py> {
    /// It waits for this object.
    Yielded(Bound<'py, PyAny>),
    /// It returned this value.
    Returned(Bound<'py, PyAny>),
    /// It raised.
    Raised(PyErr),
}

/// Resumes a coroutine or iterator with `None`.
#[inline]
pub(crate) fn send<'py>(coroutine: &Bound<'py, PyAny>) -> Sent<'py> {
    let py = coroutine.py();
    let mut out = std::ptr::null_mut();
    // SAFETY: both pointers are valid and the GIL is held; `out` receives a new reference unless the
    // call reports an error, in which case the error indicator is set.
    unsafe {
        match ffi::PyIter_Send(coroutine.as_ptr(), ffi::Py_None(), &raw mut out) {
            ffi::PySendResult::PYGEN_NEXT => Sent::Yielded(Bound::from_owned_ptr(py, out)),
            ffi::PySendResult::PYGEN_RETURN => Sent::Returned(Bound::from_owned_ptr(py, out)),
            ffi::PySendResult::PYGEN_ERROR => Sent::Raised(PyErr::fetch(py)),
        }
    }
}

/// The `StopIteration` by which a `__next__` returns `value`.
///
/// A tuple would be unpacked into the exception's arguments and an exception instance would replace
/// it, so both are wrapped explicitly, as the interpreter's own `_PyGen_SetStopIterationValue` does.
pub(crate) fn stop_iteration(value: Bound<'_, PyAny>) -> PyErr {
    let py = value.py();
    let arguments = PyTuple::new(py, [value]);
    match arguments.and_then(|a| py.get_type::<PyStopIteration>().call1(a)) {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// An instance of `class`, a named tuple's, with these three items.
///
/// Its own constructor is Python code, and `tuple.__new__` builds three more tuples on the way. An error
/// for a class that is not a subclass of `tuple`.
pub(crate) fn named_tuple<'py>(
    class: &Bound<'py, PyType>,
    items: [Bound<'py, PyAny>; 3],
) -> PyResult<Bound<'py, PyAny>> {
    let py = class.py();
    if !class.is_subclass_of::<PyTuple>()? {
        return Err(PyTypeError::new_err("a named tuple's class is a tuple's"));
    }
    // SAFETY: the class is a (heap or static) type object; the slot, if there, is its allocator.
    let slot = unsafe { ffi::PyType_GetSlot(class.as_type_ptr(), ffi::Py_tp_alloc) };
    if slot.is_null() {
        return Err(PyTypeError::new_err("the class has no allocator"));
    }
    // SAFETY: this slot holds an `allocfunc`, which both pointer types represent.
    let allocate = unsafe { std::mem::transmute::<*mut std::ffi::c_void, ffi::allocfunc>(slot) };
    // SAFETY: a tuple's subclass is allocated by its own allocator, for three items; the result is a new
    // reference or null with an error set.
    let made = unsafe { Bound::from_owned_ptr_or_err(py, allocate(class.as_type_ptr(), 3)) }?;
    for (index, item) in (0..).zip(items) {
        // SAFETY: nobody else has seen the tuple yet, and each index is below its length of three; the
        // call takes the reference over. It can only fail for what is no tuple.
        unsafe { ffi::PyTuple_SetItem(made.as_ptr(), index, item.into_ptr()) };
    }
    Ok(made)
}

/// A `bytes` object that nobody else has seen yet, while it is filled: what a socket gives lands where the script
/// will read it, without a stop in between.
pub(crate) struct BytesWriter {
    object: Py<PyBytes>,
    capacity: usize,
    /// So many bytes at its beginning are initialised.
    filled: usize,
}

impl BytesWriter {
    /// An error when there is no such memory. What is not written to is not touched either.
    pub(crate) fn with_capacity(py: Python<'_>, capacity: usize) -> PyResult<Self> {
        // The empty object is the interpreter's own, and shared.
        let capacity = capacity.max(1);
        let size = ffi::Py_ssize_t::try_from(capacity).unwrap_or(ffi::Py_ssize_t::MAX);
        // SAFETY: without a source the call returns a new object of uninitialised bytes, or null with an error
        // set.
        let object = unsafe {
            Bound::from_owned_ptr_or_err(py, ffi::PyBytes_FromStringAndSize(std::ptr::null(), size))
        }?;
        // SAFETY: what it returns is a `bytes` object.
        let object = unsafe { object.cast_into_unchecked::<PyBytes>() };
        Ok(Self {
            object: object.unbind(),
            capacity,
            filled: 0,
        })
    }

    pub(crate) fn filled(&self) -> usize {
        self.filled
    }

    pub(crate) fn room(&self) -> usize {
        self.capacity - self.filled
    }

    /// Lets `fill` write into the room that is left, behind what is there.
    pub(crate) fn fill<R>(
        &mut self,
        _py: Python<'_>,
        fill: impl FnOnce(&mut ReadBuf<'_>) -> R,
    ) -> R {
        // SAFETY: nobody but this writer knows the object, which has `capacity` bytes, of which `filled` are
        // within; they are alive as long as `self` is borrowed.
        let spare = unsafe {
            let start = ffi::PyBytes_AsString(self.object.as_ptr()).add(self.filled);
            std::slice::from_raw_parts_mut(start.cast::<MaybeUninit<u8>>(), self.room())
        };
        let start = spare.as_ptr().cast::<u8>();
        let mut buffer = ReadBuf::uninit(spare);
        let result = fill(&mut buffer);
        // Another buffer in its place would say nothing about this memory.
        assert!(
            std::ptr::eq(buffer.filled().as_ptr(), start),
            "the buffer was replaced"
        );
        self.filled += buffer.filled().len();
        result
    }

    /// Makes room for `capacity` bytes in all, if it is less.
    pub(crate) fn reserve(self, py: Python<'_>, capacity: usize) -> PyResult<Self> {
        if capacity <= self.capacity {
            return Ok(self);
        }
        let filled = self.filled;
        Ok(Self {
            object: self.resized(py, capacity)?,
            capacity,
            filled,
        })
    }

    /// The object, as long as what was written to it.
    pub(crate) fn finish(self, py: Python<'_>) -> PyResult<Py<PyBytes>> {
        let filled = self.filled;
        self.resized(py, filled)
    }

    fn resized(self, py: Python<'_>, size: usize) -> PyResult<Py<PyBytes>> {
        if size == self.capacity {
            return Ok(self.object);
        }
        let size = ffi::Py_ssize_t::try_from(size).unwrap_or(ffi::Py_ssize_t::MAX);
        let mut object = self.object.into_ptr();
        // SAFETY: the object's only reference is given up to the call, which leaves a reference to the resized
        // object, or null with an error set.
        unsafe {
            _PyBytes_Resize(&raw mut object, size);
            let object = Bound::from_owned_ptr_or_err(py, object)?;
            Ok(object.cast_into_unchecked::<PyBytes>().unbind())
        }
    }
}

/// A native awaitable whose resumption costs no `StopIteration`.
pub(crate) trait Resume: PyClass {
    fn resume<'py>(slf: &Bound<'py, Self>) -> Sent<'py>;
}

#[cfg(not(feature = "abi3"))]
unsafe extern "C" fn am_send<T: Resume>(
    slf: *mut ffi::PyObject,
    _argument: *mut ffi::PyObject,
    out: *mut *mut ffi::PyObject,
) -> ffi::PySendResult {
    let resumed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        // SAFETY: the interpreter calls a slot with the GIL held and with an instance of the type
        // that the slot was installed on (or a subclass of it).
        let slf = unsafe {
            let py = Python::assume_attached();
            Bound::<PyAny>::from_borrowed_ptr(py, slf).cast_into_unchecked::<T>()
        };
        match T::resume(&slf) {
            Sent::Yielded(value) => (ffi::PySendResult::PYGEN_NEXT, value.into_ptr()),
            Sent::Returned(value) => (ffi::PySendResult::PYGEN_RETURN, value.into_ptr()),
            Sent::Raised(error) => {
                error.restore(slf.py());
                (ffi::PySendResult::PYGEN_ERROR, std::ptr::null_mut())
            }
        }
    }));
    let (result, value) = resumed.unwrap_or_else(|_| {
        // SAFETY: the GIL is held, as above.
        let py = unsafe { Python::assume_attached() };
        pyo3::exceptions::PySystemError::new_err("the engine panicked").restore(py);
        (ffi::PySendResult::PYGEN_ERROR, std::ptr::null_mut())
    });
    // SAFETY: the interpreter passes a valid place for the result.
    unsafe { *out = value };
    result
}

/// Gives `T` the `am_send` slot, which pyo3 does not expose (worth 0.3 µs per await).
#[cfg(not(feature = "abi3"))]
pub(crate) fn install_am_send<T: Resume>(py: Python<'_>) {
    let kind = T::type_object(py).as_type_ptr();
    // SAFETY: pyo3 creates heap types, whose `tp_as_async` points into the type object itself; the
    // GIL is held and no instance exists yet.
    unsafe {
        if let Some(slots) = (*kind).tp_as_async.as_mut() {
            slots.am_send = Some(am_send::<T>);
            // Awaiting it gives itself, without a call into this module.
            slots.am_await = Some(ffi::PyObject_SelfIter);
            ffi::PyType_Modified(kind);
        }
    }
}

/// The limited API hides type slots: there `__next__` serves, a little slower.
#[cfg(feature = "abi3")]
pub(crate) fn install_am_send<T: Resume>(_py: Python<'_>) {}

unsafe extern "C" {
    // The type of what `async def` returns; exported by every CPython from 3.5 on.
    static PyCoro_Type: ffi::PyTypeObject;
    // Exported by every CPython from 3.7 on, but not declared by pyo3's limited API.
    fn PyContext_CopyCurrent() -> *mut ffi::PyObject;
    fn PyContext_Enter(context: *mut ffi::PyObject) -> std::ffi::c_int;
    fn PyContext_Exit(context: *mut ffi::PyObject) -> std::ffi::c_int;
    // Of the stable ABI, but not declared by pyo3.
    fn _PyBytes_Resize(bytes: *mut *mut ffi::PyObject, size: ffi::Py_ssize_t) -> std::ffi::c_int;
}

/// Whether this is a coroutine of the interpreter's own, which steps as it is.
#[inline]
pub(crate) fn is_coroutine(object: &Bound<'_, PyAny>) -> bool {
    std::ptr::eq(object.get_type_ptr(), &raw const PyCoro_Type)
}

/// A copy of the current `contextvars` context.
pub(crate) fn copy_context(py: Python<'_>) -> PyResult<Py<PyAny>> {
    // SAFETY: the GIL is held; the call returns a new reference or null with an error set.
    unsafe { Bound::from_owned_ptr_or_err(py, PyContext_CopyCurrent()) }.map(Bound::unbind)
}

/// Runs `body` inside `context`.
#[inline]
pub(crate) fn within_context<R>(
    context: &Bound<'_, PyAny>,
    body: impl FnOnce() -> R,
) -> PyResult<R> {
    let py = context.py();
    // SAFETY: `context` was made by `copy_context`, and the GIL is held.
    if unsafe { PyContext_Enter(context.as_ptr()) } != 0 {
        return Err(PyErr::fetch(py));
    }
    let result = body();
    // SAFETY: it was entered just above, on this thread.
    if unsafe { PyContext_Exit(context.as_ptr()) } != 0 {
        return Err(PyErr::fetch(py));
    }
    Ok(result)
}

thread_local! {
    static IDLE_STATE: Cell<*mut ffi::PyThreadState> = const { Cell::new(std::ptr::null_mut()) };
}

/// Gives the GIL away. Called by the runtime just before it waits for events.
pub(crate) fn release_gil() {
    // SAFETY: the runtime's thread holds the GIL whenever it runs, and touches nothing of Python
    // until `restore_gil`.
    let state = unsafe { ffi::PyEval_SaveThread() };
    IDLE_STATE.set(state);
}

/// Takes the GIL back, and runs pending signal handlers when this is the main thread.
///
/// The runtime swallows `EINTR`, so without this check Ctrl-C would wait for the next event.
pub(crate) fn restore_gil() -> Result<(), PyErr> {
    let state = IDLE_STATE.replace(std::ptr::null_mut());
    if state.is_null() {
        return Ok(());
    }
    // SAFETY: `state` comes from `PyEval_SaveThread` on this thread; after it the GIL is held.
    unsafe {
        ffi::PyEval_RestoreThread(state);
        if ffi::PyErr_CheckSignals() != 0 {
            return Err(PyErr::fetch(Python::assume_attached()));
        }
    }
    Ok(())
}

/// Whether a poll of this (epoll) descriptor has something to report right now.
pub(crate) fn has_events(fd: std::os::fd::RawFd) -> bool {
    let mut poll = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid, initialised entry; a timeout of zero never blocks.
    unsafe { libc::poll(&raw mut poll, 1, 0) > 0 }
}

/// Lets the runtime of the present context watch a descriptor that somebody else owns.
pub(crate) fn watch(fd: std::os::fd::RawFd) -> std::io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the caller's descriptor is open now, and only borrowed to duplicate it.
    let own = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()?;
    // SAFETY: the `AsyncFd` owns the duplicate, which therefore stays open as long as it lives.
    unsafe { AsyncFd::register_with_interest(own, Interest::READABLE) }.map_err(Into::into)
}

/// An eventfd, non-blocking.
pub(crate) fn event_fd() -> std::io::Result<OwnedFd> {
    use std::os::fd::FromRawFd;
    // SAFETY: a plain system call; on success it returns a descriptor that nobody else owns.
    unsafe {
        let fd = libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC);
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        Ok(OwnedFd::from_raw_fd(fd))
    }
}
