//! Which kernels cuBLAS would launch for a product, without running it: the call is captured into a graph, whose nodes
//! name their functions.

use std::ffi::{CStr, c_void};
use std::ptr;
use std::sync::Arc;

use cudarc::cublas::sys::cublasHandle_t;
use cudarc::driver::sys::{self, CUgraph, CUgraphNode, CUgraphNodeType, CUstreamCaptureMode};
use cudarc::driver::{CudaSlice, CudaStream, DevicePtrMut};
use mantissa_numerics::Dtype;

use super::batched::BatchedCall;
use super::heuristic::{Place, WORKSPACE};
use super::layout::Layout;
use crate::error::CudaError;

/// A kernel that would run.
///
/// Example: [`Launches`].
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Launch {
    /// The function's name as the library has it; empty for what is no kernel (a copy, a fill).
    pub name: String,
    /// Blocks along each axis.
    pub grid: [u32; 3],
    /// Threads of a block along each axis.
    pub block: [u32; 3],
    /// The first argument of a matrix-vector kernel (`gemvx`), in words: they decide its order. Empty of others.
    pub argument: Vec<u32>,
}

/// cuBLAS in one thread, to be asked what it would launch.
///
/// ```no_run
/// use mantissa_cuda::{Device, Launches, Layout};
/// use mantissa_engine::catalog::Product;
/// use mantissa_numerics::Dtype;
///
/// let launches = Launches::new(&Device::open()?.place())?;
/// // Queries by keys of 9 heads of 64 in a decode step over 513 keys.
/// for launch in launches.of_batched(Dtype::Bf16, 9, [1, 513, 64], Layout::of(Product::Scores))? {
///     println!("{} of {:?} blocks", launch.name, launch.grid);
/// }
/// # Ok::<(), mantissa_cuda::CudaError>(())
/// ```
#[derive(Debug)]
pub struct Launches {
    stream: Arc<CudaStream>,
    blas: cublasHandle_t,
    /// Held as long as the handle uses it.
    _workspace: CudaSlice<u8>,
    /// An address as torch's are aligned; nothing is read or written there.
    at: u64,
}

impl Launches {
    /// For the thread that calls it.
    ///
    /// *Errors:* of the libraries.
    pub fn new(place: &Place) -> Result<Self, CudaError> {
        place.context.bind_to_thread()?;
        let stream = place.context.new_stream()?;
        let mut workspace = stream.alloc_zeros::<u8>(WORKSPACE)?;
        stream.synchronize()?;
        let blas = cudarc::cublas::result::create_handle()?;
        let at = workspace.device_ptr_mut(&stream).0;
        // SAFETY: the handle is fresh; stream and workspace live as long as it.
        unsafe {
            cudarc::cublas::sys::cublasSetStream_v2(blas, stream.cu_stream().cast()).result()?;
            cudarc::cublas::sys::cublasSetWorkspace_v2(blas, at as *mut c_void, WORKSPACE).result()?;
        }
        Ok(Self { stream, blas, _workspace: workspace, at })
    }

    /// Kernels of a product per matrix of a batch, asked for as `Device::batched` asks.
    ///
    /// *Errors:* a product that the library refuses.
    pub fn of_batched(
        &self,
        dtype: Dtype,
        batch: usize,
        shape: [usize; 3],
        layout: Layout,
    ) -> Result<Vec<Launch>, CudaError> {
        let call = BatchedCall { dtype, batch, shape, layout };
        // SAFETY: captured work does not run, so that the addresses are not used.
        self.captured(|| unsafe { call.make(self.blas, [self.at; 3]) })
    }

    /// What `call` would launch on the stream.
    fn captured(&self, call: impl FnOnce() -> Result<(), CudaError>) -> Result<Vec<Launch>, CudaError> {
        let stream = self.stream.cu_stream();
        // Relaxed: the library may load a kernel while it is asked.
        let mode = CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_RELAXED;
        let mut graph: CUgraph = ptr::null_mut();
        // SAFETY: the stream is alive, and the capture is ended whatever the call says.
        let called = unsafe {
            sys::cuStreamBeginCapture_v2(stream, mode).result()?;
            let called = call();
            sys::cuStreamEndCapture(stream, &raw mut graph).result()?;
            called
        };
        let graph = Graph(graph);
        called?;
        graph.launches()
    }
}

impl Drop for Launches {
    fn drop(&mut self) {
        // SAFETY: the handle was created in `new`; nothing can be done about errors.
        unsafe { _ = cudarc::cublas::result::destroy_handle(self.blas) };
    }
}

/// A captured graph.
struct Graph(CUgraph);

impl Graph {
    /// Its nodes, in the order in which they were captured.
    fn launches(&self) -> Result<Vec<Launch>, CudaError> {
        let mut count = 0_usize;
        // SAFETY: without a place for nodes it writes their number.
        unsafe { sys::cuGraphGetNodes(self.0, ptr::null_mut(), &raw mut count).result()? };
        let mut nodes: Vec<CUgraphNode> = vec![ptr::null_mut(); count];
        // SAFETY: there is place for so many.
        unsafe { sys::cuGraphGetNodes(self.0, nodes.as_mut_ptr(), &raw mut count).result()? };
        nodes.into_iter().take(count).map(launch).collect()
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: it is not used again; nothing can be done about errors.
        unsafe { _ = sys::cuGraphDestroy(self.0) };
    }
}

/// The launch of a node.
fn launch(node: CUgraphNode) -> Result<Launch, CudaError> {
    let mut kind = CUgraphNodeType::CU_GRAPH_NODE_TYPE_EMPTY;
    // SAFETY: the node is of a graph that is alive.
    unsafe { sys::cuGraphNodeGetType(node, &raw mut kind).result()? };
    if kind != CUgraphNodeType::CU_GRAPH_NODE_TYPE_KERNEL {
        return Ok(Launch { name: String::new(), grid: [0; 3], block: [0; 3], argument: Vec::new() });
    }
    let mut found = std::mem::MaybeUninit::<sys::CUDA_KERNEL_NODE_PARAMS>::zeroed();
    let mut name = ptr::null();
    // SAFETY: it is a kernel's node; a name lives as long as its module.
    let (found, name, argument) = unsafe {
        sys::cuGraphKernelNodeGetParams_v2(node, found.as_mut_ptr()).result()?;
        let found = found.assume_init();
        let (mut offset, mut size) = (0_usize, 0_usize);
        if found.func.is_null() {
            sys::cuKernelGetName(&raw mut name, found.kern).result()?;
            sys::cuKernelGetParamInfo(found.kern, 0, &raw mut offset, &raw mut size).result()?;
        } else {
            sys::cuFuncGetName(&raw mut name, found.func).result()?;
            sys::cuFuncGetParamInfo(found.func, 0, &raw mut offset, &raw mut size).result()?;
        }
        let name = CStr::from_ptr(name).to_string_lossy().into_owned();
        // A copy of the arguments belongs to the graph.
        let argument = if found.kernelParams.is_null() || !name.contains("gemvx") {
            Vec::new()
        } else {
            let first = (*found.kernelParams).cast::<u32>();
            (0..size / 4).map(|word| first.add(word).read_unaligned()).collect()
        };
        (found, name, argument)
    };
    Ok(Launch {
        name,
        grid: [found.gridDimX, found.gridDimY, found.gridDimZ],
        block: [found.blockDimX, found.blockDimY, found.blockDimZ],
        argument,
    })
}
